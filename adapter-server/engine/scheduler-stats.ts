/** What the scheduler tells of itself: for metrics, for routers, for tests. */
import type { SpeculationStats } from "./speculation.ts";

export type SchedulerStats = {
  running: number;
  waiting: number;
  /** Of the waiting, those that could run if an adapter slot were free. */
  waitingForSlot: number;
  blocksUsed: number;
  blocksTotal: number;
  /** Tokens of prompts that were looked for in the prefix cache, and those that were there. */
  prefixTokensQueried: number;
  prefixTokensHit: number;
  speculation: SpeculationStats;
  preemptions: number;
  /** Digest by slot, slot 1 first. */
  slots: (string | undefined)[];
  /** Running sequences by adapter digest. */
  runningByAdapter: Record<string, number>;
  waitingByAdapter: Record<string, number>;
};

/** Of an engine that has not started. */
export const noStats: SchedulerStats = {
  running: 0,
  waiting: 0,
  waitingForSlot: 0,
  blocksUsed: 0,
  blocksTotal: 0,
  prefixTokensQueried: 0,
  prefixTokensHit: 0,
  speculation: { rows: 0, guessed: 0, held: 0 },
  preemptions: 0,
  slots: [],
  runningByAdapter: {},
  waitingByAdapter: {},
};

/** How many of these have each adapter; those without one are left out. */
export function countByAdapter(
  sequences: Iterable<{ adapter?: string | undefined }>,
): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { adapter } of sequences) if (adapter) counts[adapter] = (counts[adapter] ?? 0) + 1;
  return counts;
}
