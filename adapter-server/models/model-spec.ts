/** What a decoder's blocks are made of, in the terms that all families share. */
import type { ModelDims } from "../engine/types.ts";

/** Frequencies of rotary position embedding. */
export type Rope = { theta: number; scaling: RopeScaling };

export type RopeScaling =
  | { type: "default" }
  | { type: "linear"; factor: number }
  | {
      type: "llama3";
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContextLength: number;
    }
  | {
      type: "yarn";
      factor: number;
      originalContextLength: number;
      /** Pairs that turn more often than `turnsFast` in the original context keep their frequency. */
      turnsFast: number;
      /** Pairs that turn less often than `turnsSlow` are stretched by the whole factor. */
      turnsSlow: number;
      /** Multiplies turned queries and keys; by default it grows with the factor's logarithm. */
      attentionFactor: number | undefined;
      /** Whether the bounds between fast and slow are rounded to whole pairs. */
      truncate: boolean;
    }
  | { type: "divisors"; divisors: Float32Array };

/** One way in which layers attend; most models have one, some mix local and global layers. */
export type Attention = {
  rope: Rope;
  /** Multiplies the products of queries and keys. */
  scale: number;
  /** How many positions a token attends to, itself included; Infinity is all. */
  window: number;
};

/**
 * Names of the graph inputs by which one way to attend finds the cached positions that it sees.
 * @param attention its place among `attentions`
 */
export function attentionInputs(attention: number) {
  const suffix = attention === 0 ? "" : String(attention);
  return {
    blockRows: `blockRows${suffix}`,
    pastMask: `pastMask${suffix}`,
    chunkMask: `chunkMask${suffix}`,
  };
}

/** All that the graph needs to know of a checkpoint. */
export type ModelSpec = {
  family: string;
  dims: ModelDims;
  normEpsilon: number;
  /** Added to every stored norm weight: some families store how far they are from one. */
  normOffset: number;
  /** Multiplies embedded tokens. */
  embeddingScale: number;
  /** What the gate passes through in the feed-forward part. */
  activation: "silu" | "gelu-tanh";
  attentions: readonly Attention[];
  /** For each layer, which of `attentions` it uses. */
  layerAttention: readonly number[];
  /** Logits x become `cap · tanh(x / cap)`. */
  logitCap: number | undefined;
  /** The output matrix is the embedding. */
  tiedEmbedding: boolean;
  /** Ids that end an answer, as config.json has them. */
  endTokenIds: number[];
  /** Names that the checkpoint itself gives for what it is. */
  knownAs: string[];
  tensors: TensorNames;
};

/** Where a family's checkpoint keeps each weight. */
export type TensorNames = {
  embedding: string;
  finalNorm: string;
  output: string;
  layer(index: number): LayerTensors;
};

/** Matrices are `[out, in]`, biases `[out]`, norms as wide as what they norm. */
export type LayerTensors = {
  inputNorm: string;
  /** Queries, keys and values, in this order. */
  qkv: readonly StackedTensor[];
  /** Biases of the same; none in most families. */
  qkvBias: readonly StackedTensor[];
  /** Norms of every single head before it is turned. */
  headNorms: { query: string; key: string } | undefined;
  attentionOutput: string;
  feedForwardNorm: string;
  /** Gate, then up. */
  gateUp: readonly StackedTensor[];
  down: string;
  /** Norms of what attention and feed-forward add to the residual. */
  outputNorms: { attention: string; feedForward: string } | undefined;
};

/** A tensor that is some rows of a stack. */
export type StackedTensor = { tensor: string; rows: number };

/** One architecture that we can import. */
export type Family = {
  /** As in `architectures` of config.json. */
  architecture: string;
  /** @throws HubError `unsupported_model` that names the option we do not compute */
  readSpec(config: unknown): ModelSpec;
};
