/** Chooses a format for every matrix: the least time whose error stays inside a budget. */
import { type SiteName, siteNames } from "../../lora/sites.ts";
import type { Assessment } from "./assess.ts";
import { type MatrixFormat, matrixName, type Recipe } from "./recipe.ts";
import { measuredRows, type Speed } from "./speeds.ts";

export type Assessments = ReadonlyMap<string, Assessment>;

export type Judged = {
  /** Root of the mean square of what matrices err, relative, weighted by what an error of theirs does to answers. */
  error: number;
  /** Against the quickest format for every matrix and number of rows. */
  relativeTime: number;
};

/** The largest error that a chosen recipe may have. SmolLM2 keeps its tasks' scores to a point below it. */
export const errorMax = 0.0125;

/**
 * How much of an answer's change an error of each site makes: fitted to the KL divergence of eleven mixtures on SmolLM2
 * (docs/experiments.md). Errors of queries and keys go through a softmax.
 */
const sensitivity: Record<SiteName | "logits", number> = {
  qkv: 1,
  o: 1,
  gateUp: 0.4,
  down: 0.25,
  logits: 0.25,
};
/** What counts how much: a lone sequence, a few, many, and a prompt's chunk. */
const rowWeights = [0.3, 0.3, 0.15, 0.25];

/** @param formats candidates for every matrix, all assessed and timed */
export function chooseRecipe(
  assessments: Assessments,
  speeds: readonly Speed[],
  { layers, formats }: { layers: number; formats: readonly MatrixFormat[] },
): Recipe {
  const times = relativeTimes(assessments, speeds);
  const chosen = new Map<string, MatrixFormat>();
  const timeOf = (name: string, format: MatrixFormat) => times.get(name)?.get(format) ?? 0;
  const errorOf = (name: string, format: MatrixFormat) =>
    weightOf(name) * (assessments.get(name)?.errors[format] ?? 0);
  for (const name of assessments.keys()) {
    chosen.set(
      name,
      leastBy(formats, (format) => timeOf(name, format)),
    );
  }
  const weights = [...assessments.keys()].reduce((sum, name) => sum + weightOf(name), 0);
  let error = [...chosen].reduce((sum, [name, format]) => sum + errorOf(name, format), 0);
  while (error > errorMax ** 2 * weights) {
    const step = bestStep(chosen, formats, { timeOf, errorOf });
    if (!step) break;
    chosen.set(step.name, step.format);
    error -= step.gain;
  }
  return toRecipe(chosen, layers);
}

/** What a recipe costs by these measurements. */
export function judgeRecipe(
  recipe: Recipe,
  assessments: Assessments,
  speeds: readonly Speed[],
): Judged {
  const times = relativeTimes(assessments, speeds);
  let [error, weights, relativeTime] = [0, 0, 0];
  for (const [name, { errors }] of assessments) {
    const format = formatIn(recipe, name);
    error += weightOf(name) * (errors[format] ?? 0);
    weights += weightOf(name);
    relativeTime += times.get(name)?.get(format) ?? 0;
  }
  return { error: Math.sqrt(error / weights), relativeTime };
}

/** What a recipe says of a matrix. */
export function formatIn({ layers, logits }: Recipe, name: string): MatrixFormat {
  const [, layer, site] = /^layer(\d+)\.(\w+)$/.exec(name) ?? [];
  return layer === undefined ? logits : layers[Number(layer)]![site as SiteName];
}

/** The change of one matrix that removes most error for its time. */
function bestStep(
  chosen: ReadonlyMap<string, MatrixFormat>,
  formats: readonly MatrixFormat[],
  cost: Record<"timeOf" | "errorOf", (name: string, format: MatrixFormat) => number>,
): { name: string; format: MatrixFormat; gain: number } | undefined {
  let best: { name: string; format: MatrixFormat; gain: number; rate: number } | undefined;
  for (const [name, now] of chosen) {
    for (const format of formats) {
      const gain = cost.errorOf(name, now) - cost.errorOf(name, format);
      if (gain <= 0) continue;
      const slower = cost.timeOf(name, format) - cost.timeOf(name, now);
      const rate = gain / Math.max(slower, 1e-9);
      if (!best || rate > best.rate) best = { name, format, gain, rate };
    }
  }
  return best;
}

/** By matrix and format: its share of the whole model's time at its quickest, over all numbers of rows. */
function relativeTimes(
  assessments: Assessments,
  speeds: readonly Speed[],
): Map<string, Map<MatrixFormat, number>> {
  const byShape = new Map<string, Speed[]>();
  for (const speed of speeds) {
    const key = `${speed.in}x${speed.out}`;
    byShape.set(key, [...(byShape.get(key) ?? []), speed]);
  }
  const speedsOf = ({ in: width, out }: Assessment) => byShape.get(`${width}x${out}`) ?? [];
  // Logits are wanted of few rows; a prompt's chunk has one at most.
  const rowsOf = (name: string, index: number) => (name === "logits" && index > 1 ? 1 : index);
  const least = measuredRows.map((_, index) =>
    [...assessments].reduce((sum, [name, one]) => {
      const times = speedsOf(one).map(({ ms }) => ms[rowsOf(name, index)]!);
      return sum + (times.length > 0 ? Math.min(...times) : 0);
    }, 0),
  );
  const shares = [...assessments].map(([name, one]): [string, Map<MatrixFormat, number>] => {
    const ofFormats = speedsOf(one).map(({ format, ms }): [MatrixFormat, number] => {
      const share = measuredRows.reduce(
        (sum, _, index) =>
          sum + (rowWeights[index]! * ms[rowsOf(name, index)]!) / Math.max(least[index]!, 1e-9),
        0,
      );
      return [format, share];
    });
    return [name, new Map(ofFormats)];
  });
  return new Map(shares);
}

function toRecipe(chosen: ReadonlyMap<string, MatrixFormat>, layers: number): Recipe {
  const find = (name: string) => chosen.get(name)!;
  return {
    embedding: "blocks",
    logits: find("logits"),
    layers: Array.from({ length: layers }, (_, layer) => {
      const [qkv, o, gateUp, down] = siteNames.map((site) => find(matrixName(layer, site)));
      return { qkv: qkv!, o: o!, gateUp: gateUp!, down: down! };
    }),
  };
}

function weightOf(name: string): number {
  const site = name === "logits" ? "logits" : (name.split(".")[1] as SiteName);
  return sensitivity[site];
}

function leastBy<T>(values: readonly T[], cost: (value: T) => number): T {
  return values.reduce((best, value) => (cost(value) < cost(best) ? value : best));
}
