/** Budgets that start from the ledger: a counter is raised to what it says before the first request of this process. */
import { LRUCache } from "lru-cache";
import { HubError } from "../../sdk/protocol/errors.ts";
import type {
  BudgetLease,
  BudgetRequest,
  BudgetStore,
  Counter,
  Figures,
  Rise,
  Spending,
} from "./types.ts";

export type KnownBudgetsOptions = {
  store: BudgetStore;
  /** Milliseconds; better on a clock that never steps. */
  now: () => number;
  /** What counters have spent; `isWhole` is false where the ledger did not answer and more may have been. */
  load: (counters: readonly Counter[]) => Promise<{ spending: Spending[]; isWhole: boolean }>;
  /** How often a counter in use is compared with the ledger, and how soon again when that did not answer. */
  refreshEveryMs: number;
  retryMs: number;
  countersMax: number;
  onRise: (rises: readonly Rise[]) => void;
  onError: (error: unknown) => void;
};

export type KnownBudgets = {
  /** @throws HubError `insufficient_quota` */
  reserve(request: BudgetRequest): Promise<Pick<BudgetLease, "settle">>;
  /** What is spent and held now, also of counters that nobody has used. */
  read(counters: readonly Counter[]): Promise<Figures[]>;
  /** From now on every counter is compared with the ledger before it is used again, and this one also if it is not. */
  forget(counter?: Counter): void;
  /** No counter is compared any more without being used. */
  close(): void;
};

/** Counters that are asked for together are read together. */
export function createKnownBudgets(options: KnownBudgetsOptions): KnownBudgets {
  const { store, now, refreshEveryMs, retryMs, onRise, onError } = options;
  /** When each was compared with the ledger. */
  const comparedAtMs = new LRUCache<string, number>({ max: options.countersMax });
  const loading = new Map<string, Promise<void>>();
  /** Of those in use whose turn has come to be compared again. */
  const due = new Map<string, Counter>();
  let refreshing: NodeJS.Timeout | undefined;
  let forgotten = 0;
  let waiting: Map<string, Counter> | undefined;
  let next: Promise<void> = Promise.resolve();

  function raise(counter: Counter): Promise<void> {
    const underWay = loading.get(counter.name);
    if (underWay) return underWay;
    if (waiting === undefined) {
      const together = new Map<string, Counter>();
      waiting = together;
      next = Promise.resolve().then(() => raiseAll(together));
    }
    waiting.set(counter.name, counter);
    loading.set(counter.name, next);
    return next;
  }

  async function raiseAll(together: Map<string, Counter>): Promise<void> {
    waiting = undefined;
    const begun = forgotten;
    try {
      const { spending, isWhole } = await options.load([...together.values()]);
      onRise(await store.raise(spending));
      const atMs = isWhole ? now() : now() - refreshEveryMs + retryMs;
      if (begun === forgotten) for (const name of together.keys()) comparedAtMs.set(name, atMs);
    } finally {
      for (const name of together.keys()) loading.delete(name);
    }
  }

  /** Nobody waits for it, so it waits for others: of many counters there is always one whose turn has come. */
  function refresh(holds: BudgetRequest["holds"]): void {
    const oldestMs = now() - refreshEveryMs;
    for (const { counter } of holds) {
      const atMs = comparedAtMs.get(counter.name) ?? Number.NEGATIVE_INFINITY;
      if (atMs <= oldestMs && !loading.has(counter.name)) refreshSoon(counter);
    }
  }

  function refreshSoon(counter: Counter): void {
    if (due.size === 0) refreshing = setTimeout(refreshDue, refreshTogetherMs).unref();
    due.set(counter.name, counter);
  }

  function refreshDue(): void {
    const counters = [...due.values()];
    due.clear();
    for (const counter of counters) raise(counter).catch(onError);
  }

  return {
    forget(counter) {
      forgotten++;
      comparedAtMs.clear();
      if (counter) refreshSoon(counter);
    },
    async read(counters) {
      const unseen = counters.filter(({ name }) => !comparedAtMs.has(name));
      await Promise.all(unseen.map(raise));
      const figures = await store.read(counters);
      return figures.map((found) => found ?? { spent: 0n, held: 0n });
    },
    async reserve(request) {
      const { holds } = request;
      for (let turn = 0; turn < turnsMax; turn++) {
        if (!holds.every(({ counter }) => comparedAtMs.has(counter.name))) {
          const unseen = holds.filter(({ counter }) => !comparedAtMs.has(counter.name));
          await Promise.all(unseen.map(({ counter }) => raise(counter)));
          continue;
        }
        const lease = await store.reserve(request).catch((refusal: unknown) => {
          // A budget that is used up does not rise any more: what is told of it is looked for all the same.
          refresh(holds);
          throw refusal;
        });
        if (!("unknown" in lease)) {
          refresh(holds);
          return {
            async settle(spent) {
              const rises = await lease.settle(spent);
              onRise(rises);
              return rises;
            },
          };
        }
        await Promise.all(lease.unknown.map(raise));
      }
      throw new HubError(
        "server_is_overloaded",
        "More budgets are in use than this gateway can keep.",
      );
    },
    close() {
      clearTimeout(refreshing);
    },
  };
}

/** A counter that was raised may be forgotten before it is used, but hardly again and again. */
const turnsMax = 10;
const refreshTogetherMs = 250;
