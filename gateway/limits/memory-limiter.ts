/** Rate limits of one process. JavaScript runs `acquire` in one go, so no two requests take one place. */
import { type Bucket, levelAt, roundingSlack, stateOf, waitMs } from "./bucket.ts";
import {
  type Check,
  checksOf,
  concurrentRetryMs,
  type LimitGrant,
  type LimitRequest,
  type LimitState,
  type RateLimiter,
  rateLimitExceeded,
  tightest,
} from "./types.ts";

export type MemoryLimiterOptions = {
  now: () => number;
  /** A request that never ends gives its place back after this long. */
  placeTtlMs: number;
};

/** Holds one bucket for each limit in use; grows with the keys that exist, not with requests. */
export function createMemoryLimiter({ now, placeTtlMs }: MemoryLimiterOptions): RateLimiter {
  const buckets = new Map<string, Bucket>();
  /** Request id → when its place is given back, in order of expiry. */
  const places = new Map<string, Map<string, number>>();

  async function acquire(request: LimitRequest): Promise<LimitGrant> {
    const nowMs = now();
    const checks = checksOf(request);
    for (const check of checks) refuseBeyond(check, nowMs);
    const states: Record<Check["kind"], LimitState[]> = {
      requests: [],
      tokens: [],
      concurrent: [],
    };
    for (const check of checks) {
      const state = take(check, request.requestId, nowMs);
      if (state !== undefined) states[check.kind].push(state);
    }
    return {
      requests: tightest(states.requests),
      tokens: tightest(states.tokens),
      ...endingsOf(checks, request.requestId),
    };
  }

  function refuseBeyond(check: Check, nowMs: number): void {
    if (check.kind === "concurrent") {
      const taken = openPlaces(check, nowMs).size;
      if (taken + check.cost > check.limit)
        throw rateLimitExceeded(check, taken, concurrentRetryMs);
      return;
    }
    const level = levelAt(buckets.get(nameOf(check)), check.limit, nowMs);
    if (level + check.cost > check.limit + roundingSlack)
      throw rateLimitExceeded(check, level, waitMs(level, check.limit, check.cost));
  }

  function take(check: Check, requestId: string, nowMs: number): LimitState | undefined {
    if (check.kind === "concurrent") {
      openPlaces(check, nowMs).set(requestId, nowMs + placeTtlMs);
      return undefined;
    }
    return stateOf(change(check, check.cost, nowMs), check.limit);
  }

  function endingsOf(checks: Check[], requestId: string): Pick<LimitGrant, "settle" | "cancel"> {
    let ended = false;
    const end = (correction: (check: Check) => number): void => {
      if (ended) return;
      ended = true;
      const nowMs = now();
      for (const check of checks) {
        if (check.kind === "concurrent") openPlaces(check, nowMs).delete(requestId);
        else {
          const by = correction(check);
          if (by !== 0) change(check, by, nowMs);
        }
      }
    };
    return {
      async settle(tokens) {
        end(({ kind, cost }) => (kind === "tokens" && tokens !== undefined ? tokens - cost : 0));
      },
      async cancel() {
        end(({ cost }) => -cost);
      },
    };
  }

  /** Adds to a bucket, or takes out what was put in too much, and returns the new level. */
  function change(check: Check, by: number, nowMs: number): number {
    const name = nameOf(check);
    const level = Math.max(0, levelAt(buckets.get(name), check.limit, nowMs) + by);
    buckets.set(name, { level, atMs: nowMs });
    return level;
  }

  function openPlaces(check: Check, nowMs: number): Map<string, number> {
    const name = nameOf(check);
    let open = places.get(name);
    if (open === undefined) {
      open = new Map();
      places.set(name, open);
    }
    for (const [requestId, expiresAtMs] of open) {
      if (expiresAtMs > nowMs) break;
      open.delete(requestId);
    }
    return open;
  }

  return { acquire };
}

const nameOf = ({ scope, kind }: Check): string => `${scope.type}:${scope.id}:${kind}`;
