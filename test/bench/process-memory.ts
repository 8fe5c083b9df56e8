/** What a process holds in memory, read from Linux's /proc. */
import { existsSync, readFileSync } from "node:fs";

export const knowsProcessMemory = existsSync("/proc/self/smaps_rollup");

/** Proportional set: pages that several processes map count by their share. `Rss` counts them whole. */
export function memoryBytes(field: "Pss" | "Rss", pid: number | "self" = "self"): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return 1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1]);
}

/** Pages in memory, read quickly enough to be sampled. */
export function residentBytes(pid: number): number {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]);
  return pages * pageBytes;
}

/** Of x86-64, and of most of arm64. */
const pageBytes = 4096;
