/** Limits, budgets, prices and ledger behind one door: reserve before a request, settle after it. */
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import { holdsOf } from "../budgets/counters.ts";
import type { KnownBudgets } from "../budgets/known-budgets.ts";
import { budgetsOf } from "../budgets/list.ts";
import type { BudgetLease, BudgetScope, Spent } from "../budgets/types.ts";
import {
  type Bill,
  batchPrices,
  billReplay,
  billUsage,
  noPrice,
  type PriceSource,
  unbilledCost,
  worstCost,
} from "../ledger/price-book.ts";
import { serializeRecord, toRecord } from "../ledger/record.ts";
import type { Spool } from "../ledger/spool.ts";
import { totalTokens } from "../ledger/usage.ts";
import { rateLimitHeaders } from "../limits/headers.ts";
import type { LimitGrant, LimitScope, RateLimiter } from "../limits/types.ts";
import type { MeteringLimits } from "./config.ts";
import type {
  Accounts,
  Allowance,
  PricedModel,
  Principal,
  Reservation,
  ReserveRequest,
  Settled,
  Settlement,
  StreamUse,
} from "./types.ts";

export type AccountsParts = {
  limiter: RateLimiter;
  budgets: Pick<KnownBudgets, "reserve">;
  /** What bounds all projects together. */
  organization: () => Pick<BudgetScope, "budgets" | "spendAlerts">;
  prices: PriceSource;
  spool: Pick<Spool, "append" | "ensureWritable">;
  now: () => number;
  limits: Pick<MeteringLimits, "recordBytesMax">;
  /** Told when a limiter or budget store failed at settling; what it holds expires by itself. */
  onStoreError?: (error: unknown) => void;
};

export function createAccounts(parts: AccountsParts): Accounts {
  return {
    async reserve(request: ReserveRequest): Promise<Reservation> {
      parts.spool.ensureWritable();
      const atMs = parts.now();
      const prices = pricesOf(request, parts.prices);
      const models = worstOf(request, prices, atMs);
      const amount = [...models.values()].reduce((most, cost) => (cost > most ? cost : most), 0n);
      const grant = await parts.limiter.acquire({
        ...request,
        projectId: request.principal.project.id,
        scopes: limitScopes(request.principal),
        model: nameOf(request.models[0]),
      });
      const scopes = [organizationScope(parts.organization()), ...budgetScopes(request.principal)];
      const leases: Leased[] = [];
      const hold = async (requestId: string, by: ReadonlyMap<string, PicoUsd>, amount: PicoUsd) => {
        const { endUser } = request;
        const holds = holdsOf({ scopes, endUser, models: by, atMs });
        const lease = await parts.budgets.reserve({ requestId, holds });
        // What it was for is over.
        if (settled) await lease.settle({ cost: 0n, model: undefined });
        else leases.push({ lease, amount });
      };
      let settled: Promise<Settled> | undefined;
      try {
        await hold(request.requestId, models, amount);
      } catch (error) {
        await grant.cancel();
        throw error;
      }
      return {
        headers: rateLimitHeaders(grant),
        allowance(answered) {
          const name = nameOf(answered);
          const reserved = models.get(name);
          const isBounded = scopes.some(({ budgets }) => budgets.some(({ hard = true }) => hard));
          if (!isBounded || !reserved || request.tariffs) return undefined;
          return allowanceOf({ request, answered, prices, atMs, reserved }, (amount) =>
            hold(`${request.requestId}+${leases.length}`, new Map([[name, amount]]), amount),
          );
        },
        settle(settlement) {
          settled ??= settle(
            { ...parts, prices },
            { request, grant, leases, amount, atMs },
            settlement,
          );
          return settled;
        },
        async release() {
          if (settled) return;
          settled = Promise.resolve({});
          const stores = await Promise.allSettled([
            grant.cancel(),
            settleAll(leases, { cost: 0n, model: undefined }),
          ]);
          for (const store of stores) {
            if (store.status === "rejected") parts.onStoreError?.(store.reason);
          }
        },
      };
    },
    async admit({ requestId, principal, models }) {
      const grant = await parts.limiter.acquire({
        requestId,
        projectId: principal.project.id,
        scopes: limitScopes(principal),
        model: nameOf(models[0]),
        endUser: undefined,
        inputTokens: 0,
        outputTokensMax: 0,
      });
      return { headers: rateLimitHeaders(grant), leave: () => grant.settle(0) };
    },
  };
}

type Held = {
  request: ReserveRequest;
  grant: LimitGrant;
  leases: readonly Leased[];
  amount: PicoUsd;
  atMs: number;
};

/** What is reserved for a request, at first and as its stream goes on. */
type Leased = { lease: Pick<BudgetLease, "settle">; amount: PicoUsd };

/**
 * Each is settled for no more than was reserved by it, so that nothing is over for a moment; the last takes the rest.
 * The first has holds of every planned model, so what calls without an answer cost is counted there.
 * @throws what the first that failed has thrown, when all have been told
 */
async function settleAll(
  leases: readonly Leased[],
  { cost, model, overheads }: Spent,
): Promise<void> {
  let left = cost;
  const told = leases.map(({ lease, amount }, index) => {
    const isLast = index === leases.length - 1;
    const part = isLast || left < amount ? left : amount;
    left -= part;
    return lease.settle({ cost: part, model, ...(index === 0 && overheads && { overheads }) });
  });
  for (const result of await Promise.allSettled(told)) {
    if (result.status === "rejected") throw result.reason;
  }
}

type Running = {
  request: ReserveRequest;
  answered: PricedModel;
  prices: PriceSource;
  atMs: number;
  reserved: PicoUsd;
};

function allowanceOf(
  { request, answered, prices, atMs, reserved }: Running,
  hold: (amount: PicoUsd) => Promise<void>,
): Allowance {
  let all = reserved;
  const costOf = ({ inputTokens = request.inputTokens, outputTokens }: StreamUse): PicoUsd =>
    worstCost({ inputTokens, outputTokensMax: outputTokens }, answered, prices, atMs) ?? 0n;
  const perToken =
    costOf({ inputTokens: 0, outputTokens: 1 }) - costOf({ inputTokens: 0, outputTokens: 0 });
  return {
    left(used) {
      const spare = all - costOf(used);
      if (perToken === 0n) return spare < 0n ? -1 : Number.POSITIVE_INFINITY;
      // Rounded down below zero too: a part of a token that is not reserved is not covered.
      const tokens = spare / perToken;
      return Number(spare < 0n && tokens * perToken !== spare ? tokens - 1n : tokens);
    },
    async extend(used) {
      const more = costOf(used) - all;
      if (more <= 0n) return;
      await hold(more);
      all += more;
    },
  };
}

/**
 * The stores are told whatever becomes of the disk, and the disk whatever becomes of the stores. Budgets come first:
 * a process that is killed in between has spent by them what the ledger does not have, never the other way round.
 */
async function settle(
  { prices, spool, limits, onStoreError }: AccountsParts,
  { request, grant, leases, amount, atMs }: Held,
  settlement: Settlement,
): Promise<Settled> {
  const bill = billOf(settlement, prices, atMs);
  const unanswered = (settlement.unanswered ?? []).map((one) => ({
    ...one,
    bill: billUsage(one.usage, one, prices, atMs),
  }));
  const record = toRecord({
    requestId: request.requestId,
    principal: request.principal,
    batchId: request.batchId,
    atMs,
    settlement,
    bill,
    baselineCost: baselineOf(settlement, prices, atMs),
    uncachedCost: uncachedOf(settlement, prices, atMs),
    unanswered: unanswered.flatMap(({ upstream, bill, ...model }) =>
      bill ? [{ model, upstream, bill }] : [],
    ),
  });
  const tokens =
    settlement.usage === undefined
      ? settlement.answered === undefined
        ? 0
        : undefined
      : totalTokens(settlement.usage);
  const spent = bill?.cost ?? withoutBill(settlement, { prices, atMs, amount });
  const answeredBy = settlement.answered && nameOf(settlement.answered);
  const limiter = Promise.allSettled([grant.settle(tokens)]);
  const overheads = unanswered.map((one) => ({
    cost: one.bill?.cost ?? unbilledCost(one.usage, one, prices, atMs),
    model: nameOf(one),
  }));
  const [budgets] = await Promise.allSettled([
    settleAll(leases, { cost: spent, model: answeredBy, overheads }),
  ]);
  await spool.append(serializeRecord(record, limits.recordBytesMax));
  for (const result of [budgets, ...(await limiter)]) {
    if (result.status === "rejected") onStoreError?.(result.reason);
  }
  return bill === undefined ? {} : { cost: bill.cost };
}

function pricesOf({ batchId }: ReserveRequest, prices: PriceSource): PriceSource {
  return batchId === undefined ? prices : batchPrices(prices);
}

/** No answer costs nothing; an answer whose usage or price is unknown has no bill at all. */
function billOf(
  { answered, usage, responseCache }: Settlement,
  prices: PriceSource,
  atMs: number,
): Bill | undefined {
  if (answered === undefined) return { lines: [], cost: 0n };
  if (responseCache) return billReplay(responseCache.usage, answered, prices, atMs);
  return usage === undefined ? undefined : billUsage(usage, answered, prices, atMs);
}

/** What budgets count where the ledger knows no cost: never less than it may have been, as far as prices go. */
function withoutBill(
  { answered, usage }: Settlement,
  { prices, atMs, amount }: { prices: PriceSource; atMs: number; amount: PicoUsd },
): PicoUsd {
  if (answered === undefined) return 0n;
  const cost = usage === undefined ? 0n : unbilledCost(usage, answered, prices, atMs);
  // Of units alone where the model has prices for tokens, or the other way round, nothing can be said but that.
  return cost > 0n ? cost : amount;
}

/**
 * An estimate by nature: another model would have counted, and written, other tokens. What the answering one
 * had cached is input where the default model has no price for cached tokens.
 */
function baselineOf(
  { answered, usage, defaultModel, responseCache }: Settlement,
  prices: PriceSource,
  atMs: number,
): PicoUsd | undefined {
  // What the response cache saves is told apart from what routing does.
  if (responseCache) return undefined;
  if (answered === undefined || usage === undefined || defaultModel === undefined) return undefined;
  const { cache_read = 0, ...rest } = usage;
  const uncached = { ...rest, input: (rest.input ?? 0) + cache_read };
  const bill =
    billUsage(usage, defaultModel, prices, atMs) ?? billUsage(uncached, defaultModel, prices, atMs);
  return bill?.cost;
}

/** What a kept answer would cost if its model made it now, with the same usage. */
function uncachedOf(
  { answered, responseCache }: Settlement,
  prices: PriceSource,
  atMs: number,
): PicoUsd | undefined {
  if (answered === undefined || responseCache === undefined) return undefined;
  return billUsage(responseCache.usage, answered, prices, atMs)?.cost;
}

/**
 * What each candidate may cost. Where none has a price, a project either refuses, or reserves nothing and still has
 * its budgets checked for being used up.
 */
function worstOf(
  request: ReserveRequest,
  prices: PriceSource,
  atMs: number,
): ReadonlyMap<string, PicoUsd> {
  const costs = request.models.map((model) => worstCost(request, model, prices, atMs));
  if (
    request.principal.project.unpriced === "refuse" &&
    costs.every((cost) => cost === undefined)
  ) {
    throw noPrice(request.models.map(nameOf), request.tariffs);
  }
  return new Map(request.models.map((model, index) => [nameOf(model), costs[index] ?? 0n]));
}

function nameOf(model: PricedModel | undefined): string {
  if (!model) return "";
  return model.adapter ? `${model.model}:${model.adapter}` : model.model;
}

function limitScopes({ key, project }: Principal): LimitScope[] {
  return [
    { type: "key", id: key.id, limits: key.limits },
    { type: "project", id: project.id, limits: project.limits },
  ];
}

function organizationScope(held: ReturnType<AccountsParts["organization"]>): BudgetScope {
  return { ...held, type: "organization", id: "organization", projectId: undefined };
}

function budgetScopes({ key, project }: Principal): BudgetScope[] {
  const { id: projectId } = project;
  return [
    { type: "key", id: key.id, projectId, budgets: budgetsOf(key) },
    {
      type: "project",
      id: projectId,
      projectId,
      budgets: budgetsOf(project),
      spendAlerts: project.spendAlerts,
    },
  ];
}
