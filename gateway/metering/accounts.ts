/** Limits, budgets, prices and ledger behind one door: reserve before a request, settle after it. */
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import type { BudgetLease, BudgetScope, BudgetStore } from "../budgets/types.ts";
import {
  type Bill,
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
  Principal,
  Reservation,
  ReserveRequest,
  Settled,
  Settlement,
} from "./types.ts";

export type AccountsParts = {
  limiter: RateLimiter;
  budgets: BudgetStore;
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
      const amount = worstOf(request, parts.prices, atMs);
      const grant = await parts.limiter.acquire({
        ...request,
        projectId: request.principal.project.id,
        scopes: limitScopes(request.principal),
      });
      let lease: BudgetLease;
      try {
        lease = await parts.budgets.reserve({
          requestId: request.requestId,
          projectId: request.principal.project.id,
          scopes: budgetScopes(request.principal),
          amount,
          atMs,
        });
      } catch (error) {
        await grant.cancel();
        throw error;
      }
      let settled: Promise<Settled> | undefined;
      return {
        headers: rateLimitHeaders(grant),
        settle(settlement) {
          settled ??= settle(parts, { request, grant, lease, amount, atMs }, settlement);
          return settled;
        },
      };
    },
  };
}

type Held = {
  request: ReserveRequest;
  grant: LimitGrant;
  lease: BudgetLease;
  amount: PicoUsd;
  atMs: number;
};

/** The stores are told whatever becomes of the disk, and the disk whatever becomes of the stores. */
async function settle(
  { prices, spool, limits, onStoreError }: AccountsParts,
  { request, grant, lease, amount, atMs }: Held,
  settlement: Settlement,
): Promise<Settled> {
  const bill = billOf(settlement, prices, atMs);
  const record = toRecord({
    requestId: request.requestId,
    principal: request.principal,
    atMs,
    settlement,
    bill,
    baselineCost: baselineOf(settlement, prices, atMs),
  });
  const tokens =
    settlement.usage === undefined
      ? settlement.answered === undefined
        ? 0
        : undefined
      : totalTokens(settlement.usage);
  const spent = bill?.cost ?? withoutBill(settlement, { prices, atMs, amount });
  const stores = Promise.allSettled([grant.settle(tokens), lease.settle(spent)]);
  await spool.append(serializeRecord(record, limits.recordBytesMax));
  for (const result of await stores) {
    if (result.status === "rejected") onStoreError?.(result.reason);
  }
  return bill === undefined ? {} : { cost: bill.cost };
}

/** No answer costs nothing; an answer whose usage or price is unknown has no bill at all. */
function billOf(
  { answered, usage }: Settlement,
  prices: PriceSource,
  atMs: number,
): Bill | undefined {
  if (answered === undefined) return { lines: [], cost: 0n };
  return usage === undefined ? undefined : billUsage(usage, answered, prices, atMs);
}

/** What budgets count where the ledger knows no cost: never less than it may have been, as far as prices go. */
function withoutBill(
  { answered, usage }: Settlement,
  { prices, atMs, amount }: { prices: PriceSource; atMs: number; amount: PicoUsd },
): PicoUsd {
  if (answered === undefined) return 0n;
  return usage === undefined || Object.keys(usage).length === 0
    ? amount
    : unbilledCost(usage, answered, prices, atMs);
}

/**
 * An estimate by nature: another model would have counted, and written, other tokens. What the answering one
 * had cached is input where the default model has no price for cached tokens.
 */
function baselineOf(
  { answered, usage, defaultModel }: Settlement,
  prices: PriceSource,
  atMs: number,
): PicoUsd | undefined {
  if (answered === undefined || usage === undefined || defaultModel === undefined) return undefined;
  const { cache_read = 0, ...rest } = usage;
  const uncached = { ...rest, input: (rest.input ?? 0) + cache_read };
  const bill =
    billUsage(usage, defaultModel, prices, atMs) ?? billUsage(uncached, defaultModel, prices, atMs);
  return bill?.cost;
}

/**
 * The dearest of the priced candidates. Where none has a price, a project either refuses, or reserves
 * nothing and still has its budget checked for being used up.
 */
function worstOf(request: ReserveRequest, prices: PriceSource, atMs: number): PicoUsd {
  let worst: PicoUsd | undefined;
  for (const model of request.models) {
    const cost = worstCost(request, model, prices, atMs);
    if (cost !== undefined && (worst === undefined || cost > worst)) worst = cost;
  }
  if (worst === undefined && request.principal.project.unpriced === "refuse") {
    throw noPrice(
      request.models.map(({ model, adapter }) => (adapter ? `${model}:${adapter}` : model)),
    );
  }
  return worst ?? 0n;
}

function limitScopes({ key, project }: Principal): LimitScope[] {
  return [
    { type: "key", id: key.id, limits: key.limits },
    { type: "project", id: project.id, limits: project.limits },
  ];
}

function budgetScopes({ key, project }: Principal): BudgetScope[] {
  return [
    { type: "key", id: key.id, ...(key.budget && { budget: key.budget }) },
    { type: "project", id: project.id, ...(project.budget && { budget: project.budget }) },
  ];
}
