/** While Redis is away the stores of this process stand in, with a bounded share of each rate limit. */
import type { RateLimits } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { BudgetStore } from "../budgets/types.ts";
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

  /** Whether the local stores stand in. */
  get isAway(): boolean {
    return this.#isAway;
  }

  async ask<T>(shared: () => Promise<T>, local: () => Promise<T>): Promise<T> {
    if (this.#isAway) {
      if (this.#options.now() >= this.#retryAtMs) void this.comeBack();
      return local();
    }
    try {
      return await shared();
    } catch (error) {
      if (error instanceof HubError) throw error;
      this.#fail(error);
      return local();
    }
  }

  /** Tries to use the shared store again; call it when there is a reason to hope. Never throws. */
  async comeBack(): Promise<void> {
    this.#returning ??= this.#options
      .catchUp()
      .then(
        () => {
          this.#isAway = false;
        },
        (error: unknown) => this.#fail(error),
      )
      .finally(() => {
        this.#returning = undefined;
      });
    await this.#returning;
  }

  #fail(error: unknown): void {
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
 * it grants reaches the shared store through the ledger too.
 */
export function budgetsWithStandIn(
  { shared, local }: { shared: BudgetStore; local: BudgetStore },
  standIn: StandIn,
): BudgetStore {
  return {
    reserve: (request) =>
      standIn.ask(
        async () => {
          const lease = await shared.reserve(request);
          const scopes = request.scopes.map(({ type, id }) => ({ type, id }));
          const note = await local.reserve({ ...request, scopes });
          return {
            async settle(cost) {
              await note.settle(cost);
              await lease.settle(cost);
            },
          };
        },
        () => local.reserve(request),
      ),
    async raise(spending) {
      await local.raise(spending);
      await standIn.ask(
        () => shared.raise(spending),
        async () => {},
      );
    },
  };
}

function shareOf(limits: RateLimits, share: number): RateLimits {
  const part = Object.entries(limits).map(([name, limit]) => [
    name,
    limit === undefined ? undefined : Math.max(1, Math.floor(limit * share)),
  ]);
  return Object.fromEntries(part) as RateLimits;
}
