/**
 * GCRA in its form as a leaky bucket (ITU-T I.371 shows the two are one): a bucket holds `burst`, leaks
 * `limit` a window, and a request that would overflow it does not conform. Kept as a fill level rather
 * than an arrival time, because a level keeps its precision at any rate and can be told to people.
 */
import type { LimitState } from "./types.ts";

/** The level as it was at `atMs`; what has leaked since is not taken off yet. */
export type Bucket = { level: number; atMs: number };

/** What a bucket holds, and that it leaks `limit` in `windowMs`. */
export type Rate = { limit: number; burst: number; windowMs: number };

export function levelAt(
  bucket: Bucket | undefined,
  { limit, windowMs }: Rate,
  nowMs: number,
): number {
  if (bucket === undefined) return 0;
  // A clock set back leaks nothing.
  const leaked = (Math.max(0, nowMs - bucket.atMs) * limit) / windowMs;
  return Math.max(0, bucket.level - leaked);
}

/** How long until `cost` fits, at a level where it does not fit now. */
export function waitMs(level: number, { limit, burst, windowMs }: Rate, cost: number): number {
  return Math.max(0, ((level + cost - burst) * windowMs) / limit);
}

/** `remaining` is rounded down, `resetMs` is the time until the bucket is empty. */
export function stateOf(level: number, { limit, burst, windowMs }: Rate): LimitState {
  return {
    limit,
    remaining: Math.max(0, Math.floor(burst - level)),
    resetMs: (level * windowMs) / limit,
  };
}

/** Levels are sums of fractions; a bucket that is a rounding error too full still has room. */
export const roundingSlack = 1e-6;
