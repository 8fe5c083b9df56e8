/** While Redis is away the stores of this process stand in, with a bounded share of each rate limit. */
import type { RateLimits } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { LeasedBudgets } from "../budgets/leased-budgets.ts";
import type { BudgetLease, BudgetRequest, BudgetStore, Hold, Spent } from "../budgets/types.ts";
import type { RateLimiter } from "../limits/types.ts";

export type StandInOptions = {
  now: () => number;
  /** After a failure the shared store is left alone for this long. */
  retryAfterMs: number;
  /** Tells the shared store what it missed. @throws while it does not answer */
  catchUp: () => Promise<void>;
  onError: (error: unknown) => void;
};

/**
 * Asks the shared store, and the local one when that fails. A refusal is an answer, not a failure. Once it
 * failed, the shared store is asked again only after it was told what was spent without it.
 */
export class StandIn {
  readonly #options: StandInOptions;
  #retryAtMs = 0;
  #isAway = false;
  #returning: Promise<void> | undefined;

  constructor(options: StandInOptions) {
    this.#options = options;
  }

  get retryAfterMs(): number {
    return this.#options.retryAfterMs;
  }

  /** Whether the local stores stand in. */
  get isAway(): boolean {
    return this.#isAway;
  }

  async ask<T>(shared: () => Promise<T>, local: () => Promise<T>): Promise<T> {
    if (this.#isAway) {
      this.retry();
      return local();
    }
    try {
      return await shared();
    } catch (error) {
      if (error instanceof HubError) throw error;
      this.fail(error);
      return local();
    }
  }

  /** Comes back where it is time to try; to be called every now and then, so that nobody has to ask first. */
  retry(): void {
    if (this.#isAway && this.#options.now() >= this.#retryAtMs) void this.comeBack();
  }

  /** Tries to use the shared store again; call it when there is a reason to hope. Never throws. */
  async comeBack(): Promise<void> {
    this.#returning ??= this.#options
      .catchUp()
      .then(
        () => {
          this.#isAway = false;
        },
        (error: unknown) => this.fail(error),
      )
      .finally(() => {
        this.#returning = undefined;
      });
    await this.#returning;
  }

  /** The shared store has failed somebody who did not ask by `ask`. */
  fail(error: unknown): void {
    const { now, retryAfterMs, onError } = this.#options;
    this.#isAway = true;
    this.#retryAtMs = now() + retryAfterMs;
    onError(error);
  }
}

/** @param share of each limit that this process grants by itself, so that all together stay near it */
export function limiterWithStandIn(
  { shared, local, share }: { shared: RateLimiter; local: RateLimiter; share: number },
  standIn: StandIn,
): RateLimiter {
  return {
    acquire: (request) =>
      standIn.ask(
        () => shared.acquire(request),
        () =>
          local.acquire({
            ...request,
            scopes: request.scopes.map((it) => ({ ...it, limits: shareOf(it.limits, share) })),
          }),
      ),
  };
}

/**
 * The local store is told of everything that this process spends, and is raised to the ledger like the
 * shared one. Standing in, it may overlook only what others spend between two looks at the ledger; what
 * it grants the shared store is told when it is back.
 * @param alone what is granted of hard budgets meanwhile: what is left by the ledger, or only what is held ahead
 */
export function budgetsWithStandIn(
  { shared, local, alone }: { shared: LeasedBudgets; local: BudgetStore; alone: "ledger" | "held" },
  standIn: StandIn,
): BudgetStore {
  async function noted(request: BudgetRequest, lease: BudgetLease): Promise<BudgetLease> {
    const note = await local.reserve({ ...request, holds: request.holds.map(unbounded) });
    return {
      async settle(spent) {
        if (!("unknown" in note)) await note.settle(spent);
        return lease.settle(spent);
      },
    };
  }

  async function reserveAlone(request: BudgetRequest) {
    const isHard = request.holds.some(({ counter }) => counter.budget.hard !== false);
    if (alone === "held" && isHard) {
      const lease = shared.takeHeld(request);
      if (lease) return noted(request, lease);
      throw new HubError(
        "server_is_overloaded",
        "This gateway does not reach the others, so it cannot tell what is left of this request's budgets.",
        { retryAfterMs: standIn.retryAfterMs },
      );
    }
    const lease = await local.reserve(request);
    if ("unknown" in lease) return lease;
    return {
      async settle(spent: Spent) {
        const [rises] = await Promise.all([lease.settle(spent), shared.note(request.holds, spent)]);
        return rises;
      },
    };
  }

  return {
    reserve: (request) =>
      standIn.ask(
        async () => {
          const lease = await shared.reserve(request);
          return "unknown" in lease ? lease : noted(request, lease);
        },
        () => reserveAlone(request),
      ),
    async raise(spending) {
      const rises = await local.raise(spending);
      return standIn.ask(
        () => shared.raise(spending),
        async () => rises,
      );
    },
    read: (counters) =>
      standIn.ask(
        () => shared.read(counters),
        () => local.read(counters),
      ),
  };
}

/** Counts and refuses nothing: the shared store has decided. */
function unbounded({ counter, ...hold }: Hold): Hold {
  return { ...hold, counter: { ...counter, budget: { ...counter.budget, hard: false } } };
}

function shareOf({ rules, ...limits }: RateLimits, share: number): RateLimits {
  const partOf = (limit: number) => Math.max(1, Math.floor(limit * share));
  const part = Object.entries(limits).map(([name, limit]) => [name, limit && partOf(limit)]);
  return {
    ...Object.fromEntries(part),
    rules: rules?.map(({ limit, burst, ...rule }) => ({
      ...rule,
      limit: partOf(limit),
      ...(burst !== undefined && { burst: partOf(burst) }),
    })),
  };
}
