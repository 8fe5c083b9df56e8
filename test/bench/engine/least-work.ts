/**
 * The least that a step of a model has to read and to multiply, and so the least time that it can take on a
 * machine of given limits, were everything else free.
 */
import { dirname, join } from "node:path";
import type { ModelDims } from "../../../adapter-server/engine/types.ts";
import { graphFileName, type KeyValueType } from "../../../adapter-server/models/graph-files.ts";
import type { ImportedModel } from "../../../adapter-server/models/import-model.ts";
import { readWeightBytes } from "./imported-weights.ts";
import type { MachineLimits } from "./machine-limits.ts";
import { adapterRank } from "./models/random-adapter.ts";

export type ModelCost = {
  /** Bytes of all matrices as they are imported; the embedding is not read, but for a few rows. */
  weightBytes: number;
  /** Of those that a step of one sequence reads, where it has weights of its own. */
  singleWeightBytes: number | undefined;
  /** Multiply-adds of one token in the matrices of all layers, and in the output matrix. */
  layerProducts: number;
  outputProducts: number;
  /** Bytes of keys and values that one token leaves behind. */
  keyValueBytes: number;
  /** Multiply-adds of a token for each token that it attends to. */
  attentionProducts: number;
  /** Numbers of an adapter of rank 16 on every module, which are also its multiply-adds for one token. */
  adapterNumbers: number;
  /** Whether products of the matrices are of whole numbers. */
  isQuantized: boolean;
};

/** @param keyValues how keys and values are cached */
export async function costOf(model: ImportedModel, keyValues: KeyValueType): Promise<ModelCost> {
  const { layers, hiddenSize, heads, headDim, vocabSize } = model.dims;
  const sizes = Object.values(model.shape.modules);
  const total = (of: (size: { in: number; out: number }) => number) =>
    layers * sizes.reduce((sum, size) => sum + of(size), 0);
  return {
    weightBytes: (await readWeightBytes(model.graphPath)).everyStep,
    singleWeightBytes:
      model.singleStream && (await readWeightBytes(singleGraphOf(model))).everyStep,
    layerProducts: total((size) => size.in * size.out),
    outputProducts: hiddenSize * vocabSize,
    keyValueBytes: keyValueBytesOf(model.dims, keyValues),
    attentionProducts: 2 * layers * heads * headDim,
    adapterNumbers: total((size) => adapterRank * (size.in + size.out)),
    isQuantized: model.format !== "f32",
  };
}

function singleGraphOf({ graphPath }: ImportedModel): string {
  const variant = { adapters: "lora", keyValues: "f32", weights: "single" } as const;
  return join(dirname(graphPath), graphFileName(variant));
}

/** Bytes of one token's keys and values in all layers; in int8 each head has a scale. */
export function keyValueBytesOf(
  { layers, keyValueHeads, headDim }: ModelDims,
  type: KeyValueType,
): number {
  return 2 * layers * keyValueHeads * (type === "int8" ? headDim + 4 : 4 * headDim);
}

/** One step: so many sequences by one token each, that attend to so many tokens, with so many adapters. */
export function decodeSeconds(
  cost: ModelCost,
  limits: MachineLimits,
  step: { sequences: number; context: number; adapters?: number },
): number {
  const { sequences, context, adapters = 0 } = step;
  const single = sequences === 1 ? cost.singleWeightBytes : undefined;
  const bytes =
    (single ?? cost.weightBytes) +
    sequences * context * cost.keyValueBytes +
    adapters * cost.adapterNumbers * Float32Array.BYTES_PER_ELEMENT;
  const matrices = sequences * (cost.layerProducts + cost.outputProducts);
  const inFloat =
    sequences * context * cost.attentionProducts +
    (adapters > 0 ? sequences * cost.adapterNumbers : 0);
  return Math.max(bytes / limits.bytesPerSecond, productSeconds(cost, limits, matrices, inFloat));
}

/** A prompt of so many tokens, of which the last one's logits are computed. */
export function prefillSeconds(cost: ModelCost, limits: MachineLimits, tokens: number): number {
  const matrices = tokens * cost.layerProducts + cost.outputProducts;
  const inFloat = ((tokens * (tokens + 1)) / 2) * cost.attentionProducts;
  return Math.max(
    cost.weightBytes / limits.bytesPerSecond,
    productSeconds(cost, limits, matrices, inFloat),
  );
}

function productSeconds(
  { isQuantized }: ModelCost,
  { int8PerSecond, float32PerSecond }: MachineLimits,
  matrices: number,
  inFloat: number,
): number {
  const matrixRate = isQuantized ? int8PerSecond : float32PerSecond;
  return matrices / matrixRate + inFloat / float32PerSecond;
}
