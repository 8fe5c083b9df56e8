/** Budgets of one process. JavaScript runs `reserve` in one go, so check and hold cannot be torn apart. */
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { budgetPeriods, periodStart } from "./periods.ts";
import {
  type BudgetLease,
  type BudgetRequest,
  type BudgetScope,
  type BudgetStore,
  budgetExceeded,
  type Spending,
} from "./types.ts";

export type MemoryBudgetsOptions = { now: () => number; leaseTtlMs: number };

/** Spent and held in one period of one scope. */
type Bucket = { start: number; spent: PicoUsd; held: PicoUsd };
type Account = Record<Budget["period"], Bucket>;
type Lease = { buckets: Bucket[]; amount: PicoUsd; expiresAtMs: number };

/**
 * Counts every period of every scope, budget or not, so that a budget declared later knows the past.
 * Grows with the keys that exist, not with requests.
 */
export function createMemoryBudgets({ now, leaseTtlMs }: MemoryBudgetsOptions): BudgetStore {
  const accounts = new Map<string, Account>();
  // All leases live equally long, so the map's order is the order of expiry.
  const leases = new Map<object, Lease>();

  async function reserve(request: BudgetRequest): Promise<BudgetLease> {
    expireLeases();
    const buckets: Bucket[] = [];
    for (const scope of request.scopes) {
      if (scope.budget === undefined) continue;
      const bucket = currentBucket(accountOf(scope), scope.budget.period, request.atMs);
      refuseBeyond(scope, scope.budget, bucket, request);
      buckets.push(bucket);
    }
    return hold(buckets, request);
  }

  function hold(buckets: Bucket[], { scopes, amount, atMs }: BudgetRequest): BudgetLease {
    const id = {};
    for (const bucket of buckets) bucket.held += amount;
    if (buckets.length > 0) {
      leases.set(id, { buckets, amount, expiresAtMs: now() + leaseTtlMs });
    }
    let settled = false;
    return {
      async settle(cost) {
        if (settled) return;
        settled = true;
        const lease = leases.get(id);
        if (lease !== undefined) release(id, lease);
        for (const scope of scopes) spend(accountOf(scope), cost, atMs);
      },
    };
  }

  function expireLeases(): void {
    const nowMs = now();
    for (const [id, lease] of leases) {
      if (lease.expiresAtMs > nowMs) return;
      release(id, lease);
    }
  }

  function release(id: object, lease: Lease): void {
    leases.delete(id);
    for (const bucket of lease.buckets) bucket.held -= lease.amount;
  }

  function accountOf(scope: Pick<BudgetScope, "type" | "id">): Account {
    const name = `${scope.type}:${scope.id}`;
    let account = accounts.get(name);
    if (account === undefined) {
      account = { day: emptyBucket(0), month: emptyBucket(0), total: emptyBucket(0) };
      accounts.set(name, account);
    }
    return account;
  }

  return {
    reserve,
    async raise(spending: readonly Spending[]) {
      for (const scope of spending) {
        const account = accountOf(scope);
        for (const period of budgetPeriods) {
          const bucket = currentBucket(account, period, scope.atMs);
          // The ledger was read before midnight, and the bucket begun after it.
          if (bucket.start !== periodStart(period, scope.atMs)) continue;
          if (scope.spent[period] > bucket.spent) bucket.spent = scope.spent[period];
        }
      }
    },
  };
}

function refuseBeyond(
  scope: BudgetScope,
  budget: Budget,
  { spent, held }: Bucket,
  { amount, atMs }: BudgetRequest,
): void {
  const limit = parseUsd(budget.limitUsd);
  if (spent < limit && spent + held + amount <= limit) return;
  throw budgetExceeded({ scope, budget, spent, reserved: held, amount, atMs });
}

/** Spending of a period that is over no longer matters to any budget. */
function spend(account: Account, cost: PicoUsd, atMs: number): void {
  for (const period of budgetPeriods) {
    const bucket = currentBucket(account, period, atMs);
    if (bucket.start === periodStart(period, atMs)) bucket.spent += cost;
  }
}

/** The bucket of the period that holds `atMs`, begun anew when the last one is over. */
function currentBucket(account: Account, period: Budget["period"], atMs: number): Bucket {
  const start = periodStart(period, atMs);
  if (start > account[period].start) account[period] = emptyBucket(start);
  return account[period];
}

function emptyBucket(start: number): Bucket {
  return { start, spent: 0n, held: 0n };
}
