/** The plain data that the engine's four parts hand each other: scheduler, blocks, slots, runner. */
import type { TokenWeights, WeighedRow } from "./token-weights.ts";

/** Sizes of a base model. */
export type ModelDims = {
  layers: number;
  hiddenSize: number;
  intermediateSize: number;
  heads: number;
  keyValueHeads: number;
  headDim: number;
  vocabSize: number;
  contextLength: number;
  /** For each way in which layers attend, how many positions a token sees; Infinity is all. */
  windows: readonly number[];
  /** Queries, keys and values are one module, and so are gate and up: adapters have one pair for each. */
  fusedModules: boolean;
};

/** The work of one sequence in one step. */
export type StepRow = {
  sequenceId: number;
  /** Tokens to compute now: for a decode row the last one and guesses at what follows it, else a chunk of the prompt. */
  tokens: readonly number[];
  /** Position of `tokens[0]`, which is how many tokens the KV cache already holds. */
  position: number;
  /** Blocks of the KV pool in order; they cover `position + tokens.length` tokens. */
  blocks: readonly number[];
  /** Adapter slot; 0 is the base model. */
  slot: number;
  /** Of how many of its last tokens the logits are wanted; none for all but a prompt's last chunk. */
  samples: number;
  /** Of these, the first ones that tell how likely the prompt's next tokens were, and choose none; absent is none. */
  scores?: number;
  /** Sequences that go on from this row's last token as well, each by its own draw. */
  forks?: readonly number[];
  /** Of how many of its last tokens the final hidden states are wanted; absent is none. */
  states?: number;
  /** Computed with the weights for single sequences, where the runner has them. */
  isSingle?: boolean;
};

/** One layer module's update, `(x·Aᵀ)·B + gain ⊙ (x·Wᵀ)`, with all scaling folded into `b`. Row-major f32. */
export type LoraPair = {
  /** `[rank, in]` */
  a: Float32Array;
  /** `[rank, out]`, the transpose of what PEFT stores, times alpha / r: rows lie as a slot holds them. */
  b: Float32Array;
  rank: number;
  /** `[out]`, of DoRA alone: how much of the base's own product is added to it. */
  gain?: Float32Array;
};

/** A validated adapter, ready to be copied into a slot: `layers[layer][module]`, `module` as `q_proj`. */
export type PackedAdapter = {
  digest: string;
  /** The largest rank of any pair. */
  rank: number;
  layers: Partial<Record<LoraModule, LoraPair>>[];
};

export const loraModules = [
  "q_proj",
  "k_proj",
  "v_proj",
  "qkv_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "gate_up_proj",
  "down_proj",
] as const;
export type LoraModule = (typeof loraModules)[number];

/** A native call, and the tokens that it computed. */
export type CallTime = { tokens: number; ms: number };
/** Each absent where there were no such rows. */
export type CallTimes = { decode?: CallTime; prefill?: CallTime };

/** Computes steps. It makes no decisions: rows, blocks and slots come from outside. */
export type ModelRunner = {
  readonly dims: ModelDims;
  readonly blockSize: number;
  readonly blocks: number;
  /** Adapter slots beside slot 0. */
  readonly slots: number;
  /** The largest rank that a slot holds. */
  readonly rankMax: number;
  /** Whether it has other weights, quicker and less exact, for a step in which a single sequence decodes. */
  readonly hasSingleWeights?: boolean;
  /**
   * Computes the decode rows in one native call and the prefill rows in another, writes their keys and
   * values into the pool, and returns `[vocabSize]` logits for each token that is sampled, in the order
   * decode then prefill. The arrays are valid until the next call. Throws and leaves no trace that
   * matters: the same positions may be computed again.
   */
  run(decode: readonly StepRow[], prefill: readonly StepRow[]): Promise<Float32Array[]>;
  /** What the two calls of the last `run` took; absent where nothing tells the time. */
  readonly lastCalls?: CallTimes;
  /**
   * Weighs the tokens of some of the logits that `run` returned, in one native call; the sums of a row's weights
   * are 1. Absent where there is nothing native. The arrays are valid until the next call.
   */
  weigh?(rows: readonly WeighedRow[]): Promise<TokenWeights[]>;
  /** The largest of each block of logits that `run` returned. */
  peaksOf?(logits: Float32Array): Float32Array | undefined;
  /** Final hidden states of a row that `run` computed, `[row.states, hiddenSize]`; valid until the next call. */
  statesOf?(row: StepRow): Float32Array | undefined;
  /** Copies the keys and values of one block of the pool over another's. */
  copyBlock(from: number, to: number): void;
  /** Copies an adapter into a slot that no row of the current step uses. `slot` ≥ 1. */
  loadSlot(slot: number, adapter: PackedAdapter): void;
  /** Lets go of a slot's adapter, which nobody uses any more: its memory is free once the host lets go as well. */
  clearSlot(slot: number): void;
  /**
   * Makes ready what computing with the adapter takes and is not there yet, while steps go on; undefined where it is all
   * there. Until then the adapter comes into no slot. What fails may be tried again.
   */
  expectAdapter?(adapter: PackedAdapter): Promise<void> | undefined;
  /** How long each copy of an adapter took since this was asked last. */
  takeSlotLoads?(): { digest: string; ms: number }[];
  close(): Promise<void>;
};
