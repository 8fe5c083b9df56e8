/** Threads whose work can wait take what the engine's leave of the cores. */
import { readlinkSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { basename } from "node:path";

/**
 * Lowers the priority of the thread that calls it, and of no other: Linux keeps one for each thread, which Node
 * sets by the thread's number. Elsewhere it does nothing.
 */
export function yieldToOtherThreads(): void {
  try {
    const thread = Number(basename(readlinkSync("/proc/thread-self")));
    setPriority(thread, Math.min(lowest, getPriority(thread) + niceness));
  } catch {
    // Not Linux, or not allowed: then it competes.
  }
}

/** A sixtieth of the weight of an ordinary thread, where both want the same core: with a tenth, steps waited for loads. */
const niceness = 19;
const lowest = 19;
