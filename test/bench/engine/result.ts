/** One row of the table, and how rows are printed: medians, spread, the machine's limit, and the verdict. */
import { type Measured, median, round } from "../report.ts";

export type Result = Measured & {
  /** Least and largest of the rounds, where there were several. */
  spread?: { ours: Range; peer: Range; ratio: Range };
  /** What the machine allows at most, in the case's unit, and the share of it that was reached. */
  limit?: { value: number; reached: number };
  notes: string[];
};
type Range = readonly [least: number, largest: number];

/** Medians of rounds in which both sides were measured, more being better. */
export function resultOf({
  name,
  unit,
  ours,
  peer,
  target,
  limit,
  notes = [],
}: {
  name: string;
  unit: string;
  ours: readonly number[];
  peer: readonly number[];
  target: number | null;
  /** In the case's unit. */
  limit?: number;
  notes?: string[];
}): Result {
  const ratios = ours.map((value, index) => value / (peer[index] ?? Number.NaN));
  const middle = median(ours);
  return {
    bench: "engine",
    case: name,
    unit,
    ours: middle,
    peer: median(peer),
    ratio: median(ratios),
    target,
    spread: { ours: rangeOf(ours), peer: rangeOf(peer), ratio: rangeOf(ratios) },
    ...(limit !== undefined && { limit: { value: limit, reached: middle / limit } }),
    notes,
  };
}

/** A figure that has to stay below a bound: the bound is the peer, and the ratio is one where it is just kept. */
export function boundedResult({
  name,
  unit,
  ours,
  bound,
  limit,
  notes = [],
}: {
  name: string;
  unit: string;
  ours: number;
  bound: number;
  /** What it cannot be less than. */
  limit?: number;
  notes?: string[];
}): Result {
  return {
    bench: "engine",
    case: name,
    unit,
    ours,
    peer: bound,
    ratio: bound / ours,
    target: 1,
    ...(limit !== undefined && { limit: { value: limit, reached: limit / ours } }),
    notes,
  };
}

export function printHead(): void {
  console.log(
    `\n${"case [unit]".padEnd(nameWidth)} ${columns(["ours", "peer", "ratio", "limit", "reached"])}  target`,
  );
}

export function printResult(result: Result): void {
  const { case: name, unit, ours, peer, ratio, target, spread, limit, notes } = result;
  const figures = [
    round(ours),
    round(peer),
    ratio.toFixed(2),
    limit ? round(limit.value) : "",
    limit ? `${Math.round(100 * limit.reached)} %` : "",
  ];
  const verdict = target === null ? "" : `≥ ${target} ${ratio >= target ? "met" : "MISSED"}`;
  console.log(`${`${name} [${unit}]`.padEnd(nameWidth)} ${columns(figures)}  ${verdict}`);
  if (spread) {
    const ranges = [spread.ours, spread.peer].map((range) => range.map(round).join("–"));
    const ratios = spread.ratio.map((value) => value.toFixed(2)).join("–");
    console.log(`${"    least and largest".padEnd(nameWidth)} ${columns([...ranges, ratios])}`);
  }
  for (const note of notes) console.log(`    ${note}`);
}

function rangeOf(values: readonly number[]): Range {
  return [Math.min(...values), Math.max(...values)];
}

function columns(texts: readonly string[]): string {
  return texts.map((text) => text.padStart(12)).join(" ");
}

const nameWidth = 62;
