/**
 * GCRA in its form as a leaky bucket (ITU-T I.371 shows the two are one): a bucket holds `limit`, leaks
 * `limit` a minute, and a request that would overflow it does not conform. Kept as a fill level rather
 * than an arrival time, because a level keeps its precision at any rate and can be told to people.
 */
import type { LimitState } from "./types.ts";

/** The level as it was at `atMs`; what has leaked since is not taken off yet. */
export type Bucket = { level: number; atMs: number };

/** @param limit what the bucket holds and what it leaks per minute */
export function levelAt(bucket: Bucket | undefined, limit: number, nowMs: number): number {
  if (bucket === undefined) return 0;
  // A clock set back leaks nothing.
  const leaked = (Math.max(0, nowMs - bucket.atMs) * limit) / minuteMs;
  return Math.max(0, bucket.level - leaked);
}

/** How long until `cost` fits, at a level where it does not fit now. */
export function waitMs(level: number, limit: number, cost: number): number {
  return Math.max(0, ((level + cost - limit) * minuteMs) / limit);
}

/** `remaining` is rounded down, `resetMs` is the time until the bucket is empty. */
export function stateOf(level: number, limit: number): LimitState {
  return {
    limit,
    remaining: Math.max(0, Math.floor(limit - level)),
    resetMs: (level * minuteMs) / limit,
  };
}

/** Levels are sums of fractions; a bucket that is a rounding error too full still has room. */
export const roundingSlack = 1e-6;

const minuteMs = 60_000;
