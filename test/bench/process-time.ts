/** Processor time that a process and those it started have used, read from Linux's /proc. */
import { readFileSync } from "node:fs";

/** Milliseconds of all threads, in steps of ten; NaN where it is not known. */
export function processorMs(pid: number): number {
  try {
    return familyOf(pid).reduce((sum, one) => sum + ownMs(one), 0);
  } catch {
    return Number.NaN;
  }
}

/** A process and all below it. */
export function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  const pids = children.trim().split(" ").filter(Boolean).map(Number);
  return [pid, ...pids.flatMap(familyOf)];
}

function ownMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // A name may have blanks and brackets of its own.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * tickMs;
}

/** Linux's USER_HZ is 100 wherever Node runs. */
const tickMs = 10;
