/**
 * What Redis's scripts do, in plain words, for tests that walk through every order of steps: there a store is copied by
 * making it anew. `leased-budgets.test.ts` holds the two together.
 */
import {
  type AdvanceAccount,
  type AdvanceAnswer,
  type BudgetRequest,
  budgetExceeded,
  costIn,
  type Rise,
  type SharedBudgets,
  type Spent,
} from "./types.ts";

type Told = {
  settled: bigint;
  held: bigint;
  free: bigint;
  ahead: bigint;
  atMs: number;
  openedAtMs: number;
  expiresAtMs: number;
};
type Account = {
  spent: bigint;
  /** By what the ledger raised it of late. */
  raises: { atMs: number; amount: bigint }[];
  recalledUntilMs: number;
  leases: Map<string, { amount: bigint; expiresAtMs: number }>;
  advances: Map<string, Told>;
  /** Of those that expired with something ahead, until their last word is said. */
  dead: Map<string, Told>;
};

/** @param saidAtMs when it was said first, where nobody knows whether that was heard */
export type ModelLease = { settle(spent: Spent, saidAtMs?: number): Promise<Rise[]> };

export function createModelBudgets({
  now,
  leaseTtlMs,
  advanceMs,
}: {
  now: () => number;
  leaseTtlMs: number;
  advanceMs: number;
}): SharedBudgets & { dump(): string } {
  const accounts = new Map<string, Account>();

  function expire({ leases, advances, dead }: Account): void {
    for (const [id, { expiresAtMs }] of leases) if (expiresAtMs <= now()) leases.delete(id);
    for (const [owner, told] of advances) {
      if (told.expiresAtMs > now()) continue;
      advances.delete(owner);
      if (told.ahead > 0n) dead.set(owner, told);
    }
  }
  const sum = (amounts: Iterable<bigint>) => [...amounts].reduce((all, one) => all + one, 0n);
  const heldIn = ({ leases, advances }: Account) =>
    sum([...leases.values()].map((it) => it.amount)) +
    sum([...advances.values()].map((it) => it.held));
  const aheadIn = ({ advances }: Account) => sum([...advances.values()].map((it) => it.ahead));
  const spareIn = ({ advances }: Account) =>
    sum(
      [...advances.values()].map(({ atMs, free, ahead }) =>
        atMs > now() - silentMs ? free + ahead : 0n,
      ),
    );

  function uncounted({ raises }: Account, cost: bigint, sinceMs: number): bigint {
    let left = cost;
    for (const raise of raises) {
      if (raise.atMs < now() - sinceMs - lateSlackMs) continue;
      const counted = left < raise.amount ? left : raise.amount;
      left -= counted;
      raise.amount -= counted;
    }
    return left;
  }

  function accountFor(account: Account, owner: string, it: AdvanceAccount): AdvanceAnswer {
    const { counter, wanted } = it;
    expire(account);
    const old = account.advances.get(owner);
    if (!old) account.dead.delete(owner);
    if (!old && it.isKnown) return { type: "lost" };
    const before = account.spent - aheadIn(account);
    if (old && it.settled < old.settled) {
      const rise = { counter, before, after: before };
      return { type: "told", held: 0n, ahead: 0n, rise, isRecalled: false, isOver: false };
    }
    const news = it.settled > (old?.settled ?? 0n) ? it.settled - (old?.settled ?? 0n) : 0n;
    const late = it.late.cost < news ? it.late.cost : news;
    account.spent += news - late + uncounted(account, late, it.late.sinceMs);
    account.spent += it.ahead - (old?.ahead ?? 0n);
    const told = { ...it, atMs: now(), expiresAtMs: now() + leaseTtlMs + advanceMs };
    const { settled, held, free, ahead, atMs, expiresAtMs } = told;
    const openedAtMs = old?.openedAtMs ?? atMs;
    const entry = { settled, held, free, ahead, atMs, openedAtMs, expiresAtMs };
    account.advances.set(owner, entry);
    const isRecalled = account.recalledUntilMs > now();
    const left = counter.limit - account.spent - heldIn(account);
    const isSoft = counter.budget.hard === false;
    const mayGive = isSoft || (!isRecalled && left > 0n && left / 16n >= it.unit);
    const upTo = (most: bigint, part: bigint) =>
      mayGive ? (isSoft || most < left / part ? most : left / part) : 0n;
    const more = { held: upTo(wanted.held, 16n), ahead: upTo(wanted.ahead, 64n) };
    entry.held += more.held;
    entry.free += more.held;
    entry.ahead += more.ahead;
    account.spent += more.ahead;
    const isOver = old !== undefined && news === 0n && entry.held + entry.ahead === 0n;
    if (isOver) account.advances.delete(owner);
    const rise = { counter, before, after: account.spent - aheadIn(account) };
    return { type: "told", ...more, rise, isRecalled, isOver };
  }

  return {
    /** All that it knows. */
    dump: () =>
      JSON.stringify([...accounts], (_key, value) =>
        typeof value === "bigint" ? `${value}` : value instanceof Map ? [...value] : value,
      ),
    async reserve({ requestId, holds }: BudgetRequest) {
      const unknown = holds.flatMap(({ counter }) => (accounts.has(counter.name) ? [] : counter));
      if (unknown.length > 0) return { unknown };
      for (const hold of holds) {
        const { counter, amount } = hold;
        const account = accounts.get(counter.name) as Account;
        expire(account);
        const used = account.spent + heldIn(account) + amount;
        const fits = account.spent < counter.limit && used <= counter.limit;
        if (counter.budget.hard === false || fits) continue;
        const ahead = aheadIn(account);
        const figures = { spent: account.spent - ahead, held: heldIn(account) + ahead };
        const refusal = budgetExceeded(hold, figures);
        const spare = spareIn(account);
        if (spare === 0n || used - spare > counter.limit) throw refusal;
        account.recalledUntilMs = now() + recalledMs;
        return { recalled: counter, refusal };
      }
      for (const { counter, amount } of holds) {
        const lease = { amount, expiresAtMs: now() + leaseTtlMs };
        accounts.get(counter.name)?.leases.set(requestId, lease);
      }
      let isSettled = false;
      const lease: ModelLease = {
        async settle(spent, saidAtMs) {
          if (isSettled) return [];
          isSettled = true;
          return holds.flatMap((hold) => {
            const account = accounts.get(hold.counter.name);
            if (!account) return [];
            account.leases.delete(requestId);
            const before = account.spent - aheadIn(account);
            const cost = costIn(hold, spent);
            account.spent +=
              saidAtMs === undefined ? cost : uncounted(account, cost, now() - saidAtMs);
            return { counter: hold.counter, before, after: account.spent - aheadIn(account) };
          });
        },
      };
      return lease;
    },
    async cancel({ requestId, holds }) {
      for (const { counter } of holds) accounts.get(counter.name)?.leases.delete(requestId);
    },
    async raise(spending) {
      return spending.map(({ counter, spent }) => {
        const account: Account = accounts.get(counter.name) ?? {
          spent: 0n,
          raises: [],
          recalledUntilMs: 0,
          leases: new Map(),
          advances: new Map(),
          dead: new Map(),
        };
        const ahead = aheadIn(account);
        const before = account.spent - ahead;
        if (spent > account.spent) {
          account.raises.push({ atMs: now(), amount: spent - account.spent });
          account.spent = spent;
        }
        accounts.set(counter.name, account);
        return { counter, before, after: account.spent - ahead };
      });
    },
    async read(counters) {
      return counters.map(({ name }) => {
        const account = accounts.get(name);
        if (!account) return undefined;
        expire(account);
        const ahead = aheadIn(account);
        return { spent: account.spent - ahead, held: heldIn(account) + ahead };
      });
    },
    async account(owner, told) {
      return told.map((it): AdvanceAnswer => {
        const account = accounts.get(it.counter.name);
        return account ? accountFor(account, owner, it) : { type: "lost" };
      });
    },
    async lastWord(owner, words) {
      return words.flatMap(({ name, settled }) => {
        const account = accounts.get(name);
        if (!account) return [];
        expire(account);
        if (account.advances.has(owner)) return [name];
        const told = account.dead.get(owner);
        account.dead.delete(owner);
        if (!told) return [];
        const news = settled > told.settled ? settled - told.settled : 0n;
        const isMasked = account.raises.some(
          ({ atMs, amount }) => amount > 0n && atMs >= told.openedAtMs,
        );
        if (news < told.ahead && !isMasked) account.spent -= told.ahead - news;
        return [];
      });
    },
  };
}

const silentMs = 2_000;
const recalledMs = 1_000;
const lateSlackMs = 1_000;
