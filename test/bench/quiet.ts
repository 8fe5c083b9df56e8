/**
 * Whether the machine was quiet while something was measured: the load before, what the hypervisor took away,
 * and what other processes used. Read from Linux's /proc; elsewhere it is not known.
 */
import { readdirSync, readFileSync } from "node:fs";

export type Quietness = {
  /** False when a figure taken meanwhile is worth little; undefined where nothing is known. */
  quiet: boolean | undefined;
  /** What was seen, for people. */
  text: string;
};

/** Begins to watch; the function that it returns tells what was seen since then. */
export function watchMachine(): () => Quietness {
  const before = lookAround();
  if (!before) return () => ({ quiet: undefined, text: "not known whether it was quiet" });
  return () => {
    const after = lookAround();
    if (!after) return { quiet: undefined, text: "not known whether it was quiet" };
    return judge(before, after);
  };
}

type View = {
  load: number;
  /** Ticks of all cores since the start of the machine. */
  total: number;
  busy: number;
  stolen: number;
  processes: ReadonlyMap<number, ProcessView>;
};
type ProcessView = {
  name: string;
  parent: number;
  ticks: number;
  /** Of children that it has waited for. */
  ticksOfEnded: number;
};

function judge(before: View, after: View): Quietness {
  const total = Math.max(1, after.total - before.total);
  const stolen = (after.stolen - before.stolen) / total;
  const ours = ticksOfOurs(after) - ticksOfOurs(before);
  const others = Math.max(0, after.busy - before.busy - ours) / total;
  const loudest = [...after.processes]
    .filter(([pid]) => !isOurs(pid, after))
    .map(([pid, { name, ticks }]) => {
      return { name, share: (ticks - (before.processes.get(pid)?.ticks ?? 0)) / total };
    })
    .filter(({ share }) => share > 0.01)
    .sort((one, other) => other.share - one.share)
    .slice(0, 3)
    .map(({ name, share }) => `${name} ${percent(share)}`);
  // The load is told and not judged: what this run did just before is in it.
  const quiet = stolen < stolenMax && others < othersMax;
  const names = loudest.length > 0 ? ` (${loudest.join(", ")})` : "";
  return {
    quiet,
    text:
      `${quiet ? "quiet" : "NOT QUIET"}: load ${before.load.toFixed(1)} before and ${after.load.toFixed(1)} after, ` +
      `stolen ${percent(stolen)}, other processes ${percent(others)}${names}`,
  };
}

/** With those of children that have ended. */
function ticksOfOurs(view: View): number {
  const ours = [...view.processes].filter(([pid]) => isOurs(pid, view));
  return sum(ours.map(([, { ticks, ticksOfEnded }]) => ticks + ticksOfEnded));
}

/** This process and those below it. */
function isOurs(pid: number, { processes }: View): boolean {
  for (let at: number | undefined = pid; at; at = processes.get(at)?.parent) {
    if (at === process.pid) return true;
  }
  return false;
}

function lookAround(): View | undefined {
  try {
    const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
    const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, stolen = 0] = ticks;
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    return {
      load: Number(readFileSync("/proc/loadavg", "utf8").split(" ")[0]),
      total: sum(ticks),
      busy: user + nice + system + irq + softirq,
      stolen,
      processes: new Map(pids.flatMap((pid) => viewOf(Number(pid)))),
    };
  } catch {
    return undefined;
  }
}

function viewOf(pid: number): [number, ProcessView][] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // A name may have blanks and brackets of its own.
    const end = stat.lastIndexOf(")");
    const fields = stat.slice(end + 2).split(" ");
    const [user = 0, system = 0, endedUser = 0, endedSystem = 0] = fields.slice(11, 15).map(Number);
    const view = {
      name: stat.slice(stat.indexOf("(") + 1, end),
      parent: Number(fields[1]),
      ticks: user + system,
      ticksOfEnded: endedUser + endedSystem,
    };
    return [[pid, view]];
  } catch {
    // It has ended since it was listed.
    return [];
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Shares of all cores' time. */
const stolenMax = 0.01;
const othersMax = 0.03;
