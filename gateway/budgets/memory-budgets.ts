/** Budgets of one process. JavaScript runs `reserve` in one go, so check and hold cannot be torn apart. */
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import {
  type BudgetLease,
  type BudgetRequest,
  type BudgetStore,
  budgetExceeded,
  type Counter,
  costIn,
  type Hold,
  isWithin,
  type Rise,
} from "./types.ts";

export type MemoryBudgetsOptions = {
  now: () => number;
  leaseTtlMs: number;
  /** Counters that are kept; end users are named by clients, and may be any number. */
  countersMax: number;
};

/** `leases` counts those that hold something here; only without any may a counter be forgotten. */
type Account = { spent: PicoUsd; held: PicoUsd; leases: number };
type Lease = { holds: readonly Hold[]; expiresAtMs: number };

/** What it has forgotten it does not know, and whoever reserves raises it from the ledger again. */
export function createMemoryBudgets({
  now,
  leaseTtlMs,
  countersMax,
}: MemoryBudgetsOptions): BudgetStore {
  /** In the order of their last use, from when there are so many that some may soon have to be forgotten. */
  const accounts = new Map<string, Account>();
  // All leases live equally long, so the map's order is the order of expiry.
  const leases = new Map<object, Lease>();

  async function reserve({
    holds,
  }: BudgetRequest): Promise<BudgetLease | { unknown: readonly Counter[] }> {
    expireLeases();
    if (!holds.every(({ counter }) => accounts.has(counter.name))) {
      const counters = holds.map(({ counter }) => counter);
      return { unknown: counters.filter(({ name }) => !accounts.has(name)) };
    }
    for (const hold of holds) {
      const account = use(hold.counter);
      if (account && !isWithin(hold, account)) throw budgetExceeded(hold, account);
    }
    return take(holds);
  }

  function take(holds: readonly Hold[]): BudgetLease {
    const id = {};
    if (holds.length > 0) leases.set(id, { holds, expiresAtMs: now() + leaseTtlMs });
    change(holds, 1);
    let settled = false;
    return {
      async settle(spent) {
        if (settled) return [];
        settled = true;
        release(id);
        const rises: Rise[] = [];
        for (const hold of holds) {
          const rose = rise(hold.counter, costIn(hold, spent));
          if (rose) rises.push(rose);
        }
        return rises;
      },
    };
  }

  function expireLeases(): void {
    const nowMs = now();
    for (const [id, lease] of leases) {
      if (lease.expiresAtMs > nowMs) return;
      release(id);
    }
  }

  function release(id: object): void {
    const lease = leases.get(id);
    if (lease && leases.delete(id)) change(lease.holds, -1);
  }

  /** Adds holds (1) or takes them away (-1). */
  function change(holds: readonly Hold[], by: 1 | -1): void {
    for (const { counter, amount } of holds) {
      const account = accounts.get(counter.name);
      if (account === undefined) continue;
      account.held = by === 1 ? account.held + amount : account.held - amount;
      account.leases += by;
    }
  }

  /** What is not known is in the ledger, and comes back with it. */
  function rise(counter: Counter, cost: PicoUsd): Rise | undefined {
    const account = accounts.get(counter.name);
    if (account === undefined) return undefined;
    const before = account.spent;
    account.spent += cost;
    return { counter, before, after: account.spent };
  }

  function use({ name }: Counter): Account | undefined {
    const account = accounts.get(name);
    if (account !== undefined && accounts.size > countersMax / 2 && accounts.delete(name)) {
      accounts.set(name, account);
    }
    return account;
  }

  function forgetOldest(): void {
    for (const [name, { leases: held }] of accounts) {
      if (accounts.size <= countersMax) return;
      if (held === 0) accounts.delete(name);
    }
  }

  return {
    reserve,
    async raise(spending) {
      const rises = spending.flatMap(({ counter, spent }) => {
        const known = accounts.get(counter.name);
        if (known === undefined) accounts.set(counter.name, { spent: 0n, held: 0n, leases: 0 });
        const less = known?.spent ?? 0n;
        return rise(counter, spent > less ? spent - less : 0n) ?? [];
      });
      forgetOldest();
      return rises;
    },
    async read(counters) {
      expireLeases();
      return counters.map(({ name }) => accounts.get(name));
    },
  };
}
