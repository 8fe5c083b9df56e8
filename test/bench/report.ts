/** How a benchmark tells its results: a table for people, then one line of JSON for programs. */
import { cpus, totalmem } from "node:os";
import { describeProcessor } from "./processor.ts";
import { watchMachine } from "./quiet.ts";

export type Measured = {
  bench: string;
  case: string;
  unit: string;
  ours: number;
  peer: number;
  /** Ours against the peer, turned so that more is better. */
  ratio: number;
  /** The least ratio that is accepted; null where nothing was promised. */
  target: number | null;
};

/** Prints every case, missed targets as missed, and as the last line all of it as JSON. */
export function printResults(results: readonly Measured[]): void {
  const machine = describeMachine();
  console.log(
    `\n${"case".padEnd(58)} ${"ours".padStart(10)} ${"peer".padStart(10)} ${"ratio".padStart(7)}  target`,
  );
  for (const { case: name, unit, ours, peer, ratio, target } of results) {
    const verdict =
      target === null ? "" : ratio >= target ? `≥ ${target} met` : `≥ ${target} MISSED`;
    console.log(
      `${`${name} [${unit}]`.padEnd(58)} ${round(ours).padStart(10)} ${round(peer).padStart(10)} ${ratio.toFixed(2).padStart(7)}  ${verdict}`,
    );
  }
  console.log(`\n${machine}`);
  printJson(results, machine);
}

/** The last line of every benchmark, for programs. */
export function printJson(results: readonly Measured[], machine: string): void {
  const rows = results.map(({ bench, case: name, unit, ours, peer, ratio, target }) => {
    return { bench, case: name, unit, ours, peer, ratio, target, machine };
  });
  console.log(JSON.stringify(rows));
}

/** Cores, memory, Node, and whether something else was running: a busy machine is said to be one. */
export function describeMachine(): string {
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return `${cpus().length} × ${describeProcessor()}, ${memory}, Node ${process.version}, ${quietness().text}`;
}

/** Watched from before the benchmark itself loads the machine. */
const quietness = watchMachine();

/** The value below which the given share of the sorted values lies. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) return Number.NaN;
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] as number;
}

export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

/** Three digits, or whole numbers. */
export function round(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
