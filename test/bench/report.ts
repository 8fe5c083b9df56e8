/** How a benchmark tells its results: a table for people, then one line of JSON for programs. */
import { cpus, loadavg, totalmem } from "node:os";

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
  console.log(JSON.stringify(results.map((result) => ({ ...result, machine }))));
}

/** Cores, memory, Node, and whether something else was running: a busy machine is said to be one. */
function describeMachine(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return `${cpus().length} × ${model}, ${memory}, Node ${process.version}${noise}`;
}

/** Taken before the benchmark itself loads the machine. */
const loadBefore = loadavg()[0] ?? 0;
const noise =
  loadBefore > 0.5
    ? `, NOT QUIET (load ${loadBefore.toFixed(1)} before the start)`
    : ", quiet at the start";

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

function round(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
