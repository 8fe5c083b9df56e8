/** What a model computes of the calibration text in float32, layer by layer; what quantized forms are held against. */
import { checkpointWeights } from "../checkpoint-weights.ts";
import type { WeightFiles } from "../model-source.ts";
import type { ModelSpec } from "../model-spec.ts";
import { LayerPass, type SitePass } from "./layer-pass.ts";
import type { Product } from "./product.ts";

export type Reference = {
  sequences: readonly (readonly number[])[];
  /** Tokens of a sequence from one compared position to the next; the first is the last of the first `stride`. */
  stride: number;
  /** Compared positions, sequence by sequence. */
  positions: { sequence: number; position: number }[];
  /** What the output matrix is multiplied with at these positions, `[positions, hidden]`. */
  hidden: Float32Array;
};

/**
 * Computes all layers, with no more than one of them in memory.
 * @param onLayer told of every layer's matrices and what they were multiplied with, before the next is computed
 */
export async function computeReference(
  spec: ModelSpec,
  {
    sequences,
    checkpoint,
    threads,
    onLayer,
  }: {
    /** Token ids. */
    sequences: readonly (readonly number[])[];
    checkpoint: WeightFiles;
    threads: number;
    onLayer?: (layer: number, sites: readonly SitePass[]) => Promise<void>;
  },
): Promise<Reference> {
  const weights = checkpointWeights(checkpoint, spec, undefined);
  const pass = new LayerPass(spec, { weights, sequences, threads });
  try {
    let hidden = await embed(sequences.flat(), checkpoint, spec);
    for (let layer = 0; layer < spec.dims.layers; layer++) {
      const { after, sites } = await pass.run(layer, hidden);
      await onLayer?.(layer, sites);
      hidden = after;
    }
    const { positions, rows, stride } = comparedPositions(sequences, spec.dims.vocabSize);
    const normed = await finalNorm(hidden, rows, { checkpoint, spec });
    return { sequences, stride, positions, hidden: normed };
  } finally {
    await pass.close();
  }
}

/** Logits at all compared positions, `[positions, vocabulary]`, from a part of the output matrix at a time. */
export async function referenceLogits(
  { hidden }: Reference,
  { checkpoint, spec, product }: { checkpoint: WeightFiles; spec: ModelSpec; product: Product },
): Promise<Float32Array> {
  const { hiddenSize, vocabSize } = spec.dims;
  const { tensors, tiedEmbedding, logitCap } = spec;
  const matrix = tiedEmbedding ? tensors.embedding : tensors.output;
  const positions = hidden.length / hiddenSize;
  const logits = new Float32Array(positions * vocabSize);
  for (let from = 0; from < vocabSize; from += outputsPerPart) {
    const to = Math.min(from + outputsPerPart, vocabSize);
    const part = await product.multiply(
      hidden,
      await checkpoint.read(matrix, from, to),
      hiddenSize,
    );
    for (let row = 0; row < positions; row++) {
      const values = part.subarray(row * (to - from), (row + 1) * (to - from));
      logits.set(values, row * vocabSize + from);
    }
  }
  if (logitCap === undefined) return logits;
  return logits.map((value) => logitCap * Math.tanh(value / logitCap));
}

/** Rows of the embedding, `[tokens, hidden]`. */
async function embed(
  tokens: readonly number[],
  checkpoint: WeightFiles,
  { tensors, dims, embeddingScale }: ModelSpec,
): Promise<Float32Array> {
  const { hiddenSize } = dims;
  const embedded = new Float32Array(tokens.length * hiddenSize);
  for (const [index, token] of tokens.entries()) {
    const row = await checkpoint.read(tensors.embedding, token, token + 1);
    embedded.set(row, index * hiddenSize);
  }
  return embeddingScale === 1 ? embedded : embedded.map((value) => value * embeddingScale);
}

/** Every few positions, as many as their logits have room; at least one, however short the sequences. */
function comparedPositions(sequences: readonly (readonly number[])[], vocabSize: number) {
  const tokens = sequences.reduce((sum, { length }) => sum + length, 0);
  const positionsMax = Math.max(1, Math.floor(logitBytesMax / (4 * vocabSize)));
  const longest = Math.max(...sequences.map(({ length }) => length));
  const stride = Math.min(Math.max(strideMin, Math.ceil(tokens / positionsMax)), longest);
  const positions: { sequence: number; position: number }[] = [];
  const rows: number[] = [];
  let start = 0;
  for (const [sequence, { length }] of sequences.entries()) {
    for (let position = stride - 1; position < length; position += stride) {
      positions.push({ sequence, position });
      rows.push(start + position);
    }
    start += length;
  }
  return { positions, rows, stride };
}

/** RMSNorm of some rows. */
async function finalNorm(
  hidden: Float32Array,
  rows: readonly number[],
  { checkpoint, spec }: { checkpoint: WeightFiles; spec: ModelSpec },
): Promise<Float32Array> {
  const { hiddenSize } = spec.dims;
  const weight = await checkpoint.read(spec.tensors.finalNorm);
  const normed = new Float32Array(rows.length * hiddenSize);
  for (const [index, row] of rows.entries()) {
    const values = hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize);
    const squares = values.reduce((sum, value) => sum + value * value, 0);
    const factor = 1 / Math.sqrt(squares / hiddenSize + spec.normEpsilon);
    for (let i = 0; i < hiddenSize; i++) {
      normed[index * hiddenSize + i] = values[i]! * factor * (weight[i]! + spec.normOffset);
    }
  }
  return normed;
}

const strideMin = 4;
const logitBytesMax = 48 * 2 ** 20;
const outputsPerPart = 4096;
