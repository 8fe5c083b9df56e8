/** `quantization.json` beside an imported graph: how its weights are stored, why so, and what that costs. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { singleFormats } from "../graph-files.ts";
import { matrixFormats, recipeSchema } from "./recipe.ts";

export type QuantizationReport = z.infer<typeof report>;
/** What the finished import computes of the calibration text, against float32. */
export type QuantizationCost = QuantizationReport["cost"];

/**
 * @returns undefined for float32, which costs nothing
 * @throws HubError `unsupported_model` when the file is not what was written
 */
export async function readReport(folder: string): Promise<QuantizationReport | undefined> {
  const path = join(folder, reportFileName);
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return report.parse(JSON.parse(text));
  } catch (cause) {
    const message = `${path} is damaged. Remove the import (switchyard models remove) and import its source again.`;
    throw new HubError("unsupported_model", message, { cause });
  }
}

export async function writeReport(folder: string, value: QuantizationReport): Promise<void> {
  const text = JSON.stringify(report.parse(value), null, 1);
  await writeFile(join(folder, reportFileName), `${text}\n`, { flush: true });
}

const reportFileName = "quantization.json";

const format = z.enum(matrixFormats);
const cost = z.object({
  /** Positions of the calibration text that were compared. */
  positions: z.number(),
  /** KL divergence of the next token from what float32 says, in nats. */
  klMean: z.number(),
  kl99: z.number(),
  /** The share of positions where the likeliest token is the same. */
  top1: z.number(),
});
const report = z.object({
  version: z.literal(1),
  recipe: recipeSchema,
  /** Two imports of one checkpoint compute the same if and only if this is the same. */
  recipeDigest: z.string(),
  /** Why these formats, in a sentence. */
  reason: z.string(),
  /** What each matrix errs, relative to its product. */
  matrices: z.array(z.object({ name: z.string(), format, error: z.number() })),
  /** What was compared, when something was chosen; the first is what was chosen. */
  candidates: z.array(z.object({ name: z.string(), error: z.number(), relativeTime: z.number() })),
  /** Rows of the calls that `speeds` has times for. */
  measuredRows: z.array(z.number()),
  /** Milliseconds of one product on the machine that imported. */
  speeds: z.array(z.object({ in: z.number(), out: z.number(), format, ms: z.array(z.number()) })),
  cost,
  /** Weights for steps in which one sequence decodes, where they were asked for. */
  singleStream: z
    .object({
      format: z.enum(singleFormats),
      /** Whether the import has them. */
      isChosen: z.boolean(),
      reason: z.string(),
      /** What it costs to compute all of the calibration text with them; absent where they were not tried. */
      cost: cost.optional(),
    })
    .optional(),
});
