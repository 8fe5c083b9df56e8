/** Which format each matrix of an import is stored in, and what that is called. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { type SiteName, siteNames } from "../../lora/sites.ts";
import type { DecoderFormats } from "../adapted-linear.ts";
import type { SingleFormat } from "../graph-files.ts";
import {
  blocks,
  float32,
  int8Rows,
  int8RowsOf16Bits,
  type WeightFormat,
} from "../weight-format.ts";

/**
 * `rows` are int8 with a scale for each row of activations, `smooth` the same after dividing channels, `rows16` with
 * activations in 16 bits.
 */
export const matrixFormats = [
  "float32",
  "rows",
  "smooth",
  "rows16",
  "block8x64",
  "block8x128",
  "block4x32",
  "block4x128",
] as const;
export type MatrixFormat = (typeof matrixFormats)[number];

export type Recipe = z.infer<typeof recipeSchema>;

/** By which divisors the input of a smoothed matrix is divided, `[in]`; `logits` has no layer. */
export type Smoothing = ReadonlyMap<string, Float32Array>;

/** Names one matrix among all: `layer3.qkv`, or `logits`. */
export function matrixName(layer: number, site: SiteName): string {
  return `layer${layer}.${site}`;
}

/** The same for every layer. */
function everyLayer(layers: number, formats: Record<SiteName | "logits", MatrixFormat>): Recipe {
  const { logits, ...sites } = formats;
  return {
    embedding: logits === "float32" ? "stored" : "blocks",
    logits,
    layers: Array.from({ length: layers }, () => ({ ...sites })),
  };
}

/** The same for every matrix. */
export function everyMatrix(layers: number, format: MatrixFormat): Recipe {
  return everyLayer(layers, {
    qkv: format,
    o: format,
    gateUp: format,
    down: format,
    logits: format,
  });
}

/**
 * Queries, keys and values keep 8 bits among 4-bit blocks: they are a sixth of a layer, and with 4 bits
 * the demo adapters lose two points on slots that have to be copied (`accuracy.slow.test.ts`). So does
 * the output matrix, whose every error is an error of a logit.
 */
export function fourBits(layers: number, format: SingleFormat): Recipe {
  const [eight, four] = ["block8x64", format === "int4" ? "block4x32" : "block4x128"] as const;
  return everyLayer(layers, { qkv: eight, o: four, gateUp: four, down: four, logits: eight });
}

/** Names a recipe by what it says. */
export function recipeDigest(recipe: Recipe): string {
  const { embedding, logits, layers } = recipe;
  const sites = layers.map((layer) => siteNames.map((site) => layer[site]));
  const text = JSON.stringify([embedding, logits, sites]);
  return createHash("sha256").update(text).digest("hex");
}

/** What the graph is built with. */
export function toDecoderFormats(recipe: Recipe, smoothing: Smoothing): DecoderFormats {
  const find = (name: string, format: MatrixFormat) => weightFormatOf(format, smoothing.get(name));
  return {
    embedding: recipe.embedding,
    site: (layer, site) => find(matrixName(layer, site), recipe.layers[layer]![site]),
    logits: find("logits", recipe.logits),
  };
}

/** @param divisors of a smoothed matrix, `[in]` */
export function weightFormatOf(
  format: MatrixFormat,
  divisors: Float32Array | undefined,
): WeightFormat {
  return format === "smooth" ? int8Rows(divisors) : weightFormats[format];
}

const weightFormats: Record<Exclude<MatrixFormat, "smooth">, WeightFormat> = {
  float32,
  rows: int8Rows(),
  rows16: int8RowsOf16Bits,
  block8x64: blocks(8, 64),
  block8x128: blocks(8, 128),
  block4x32: blocks(4, 32),
  block4x128: blocks(4, 128),
};

const format = z.enum(matrixFormats);
export const recipeSchema = z.object({
  embedding: z.enum(["stored", "blocks"]),
  logits: format,
  layers: z.array(z.object({ qkv: format, o: format, gateUp: format, down: format })),
});
