/** Lets others be served while many texts of one request are read. */
import { setImmediate as nextTurn } from "node:timers/promises";

/** What `read` makes of each item, in their order; after each few milliseconds of that others have a turn. */
export async function readWithPauses<T, R>(
  items: readonly T[],
  read: (item: T, index: number) => R,
  monotonicMs: () => number,
): Promise<R[]> {
  const results: R[] = [];
  let sinceMs = monotonicMs();
  for (const [index, item] of items.entries()) {
    results.push(read(item, index));
    if (monotonicMs() - sinceMs < turnMsMax) continue;
    await nextTurn();
    sinceMs = monotonicMs();
  }
  return results;
}

/** A megabyte of texts takes most of a second, and a stream's tokens come every few hundredths of one. */
const turnMsMax = 10;
