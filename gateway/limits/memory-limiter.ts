/** Rate limits of one process. JavaScript runs `acquire` in one go, so no two requests take one place. */
import { LRUCache } from "lru-cache";
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
  /** Buckets that are kept; end users are named by clients, and may be any number. */
  bucketsMax: number;
};

/** Holds one bucket for each limit in use. Beyond the most that it may, the one longest unused is forgotten. */
export function createMemoryLimiter({
  now,
  placeTtlMs,
  bucketsMax,
}: MemoryLimiterOptions): RateLimiter {
  /** Evicted by age rather than swept: what nobody uses has leaked, or soon will have. */
  const buckets = new LRUCache<string, Bucket>({ max: bucketsMax });
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
      const taken = openPlaces(check, nowMs)?.size ?? 0;
      if (taken + check.cost > check.rate.limit)
        throw rateLimitExceeded(check, taken, concurrentRetryMs);
      return;
    }
    const level = levelAt(buckets.get(nameOf(check)), check.rate, nowMs);
    if (level + check.cost > check.rate.burst + roundingSlack)
      throw rateLimitExceeded(check, level, waitMs(level, check.rate, check.cost));
  }

  function take(check: Check, requestId: string, nowMs: number): LimitState | undefined {
    if (check.kind === "concurrent") {
      const name = nameOf(check);
      const open = places.get(name) ?? new Map<string, number>();
      places.set(name, open.set(requestId, nowMs + placeTtlMs));
      return undefined;
    }
    return stateOf(change(check, check.cost, nowMs), check.rate);
  }

  function endingsOf(checks: Check[], requestId: string): Pick<LimitGrant, "settle" | "cancel"> {
    let ended = false;
    const end = (correction: (check: Check) => number): void => {
      if (ended) return;
      ended = true;
      const nowMs = now();
      for (const check of checks) {
        if (check.kind === "concurrent") leave(check, requestId);
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
    const bucket = buckets.get(name);
    const level = Math.max(0, levelAt(bucket, check.rate, nowMs) + by);
    // What has leaked once does not leak again when a clock that was set back catches up.
    buckets.set(name, { level, atMs: Math.max(nowMs, bucket?.atMs ?? nowMs) });
    return level;
  }

  function openPlaces(check: Check, nowMs: number): Map<string, number> | undefined {
    const open = places.get(nameOf(check));
    for (const [requestId, expiresAtMs] of open ?? []) {
      if (expiresAtMs > nowMs) break;
      open?.delete(requestId);
    }
    return open;
  }

  function leave(check: Check, requestId: string): void {
    const name = nameOf(check);
    const open = places.get(name);
    open?.delete(requestId);
    if (open?.size === 0) places.delete(name);
  }

  return { acquire };
}

const nameOf = ({ scope, bucket }: Check): string => `${scope.type}:${scope.id}:${bucket}`;
