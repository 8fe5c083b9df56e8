/** Makes one vector of a sequence: its last token's hidden state, or the mean of all tokens' hidden states. */
import { invariant } from "../../sdk/protocol/errors.ts";
import type { StepRow } from "./types.ts";

export const poolings = ["last", "mean"] as const;
export type Pooling = (typeof poolings)[number];

/** Of how many of its last tokens a row's hidden states are needed. */
export function statesWanted(
  pooling: Pooling,
  { tokens, endsSequence }: { tokens: number; endsSequence: boolean },
): number {
  if (pooling === "mean") return tokens;
  return endsSequence ? 1 : 0;
}

type Sum = { values: Float64Array; tokens: number };

/** Sums are carried from chunk to chunk in the order of the tokens, so that no cut of a prompt changes them. */
export class Pooler {
  readonly #hiddenSize: number;
  readonly #sequenceOf: (
    id: number,
  ) => { pooling?: Pooling; prompt: readonly number[] } | undefined;
  /** By sequence, of those that have computed some chunks: who is forgotten takes its sum along. */
  readonly #sums = new WeakMap<object, Sum>();

  constructor(
    hiddenSize: number,
    sequenceOf: (id: number) => { pooling?: Pooling; prompt: readonly number[] } | undefined,
  ) {
    this.#hiddenSize = hiddenSize;
    this.#sequenceOf = sequenceOf;
  }

  /**
   * Takes a row's states, `[row.states, hidden]`. Each token is taken once; a sequence that begins anew, because
   * it lost its blocks, begins its sum anew.
   * @returns the vector, `[hidden]`, once the sequence is whole
   * @throws Error when it is not made of numbers
   */
  take(row: StepRow, states: Float32Array): Float32Array | undefined {
    const sequence = this.#sequenceOf(row.sequenceId);
    invariant(sequence?.pooling !== undefined, "states are of sequences that are pooled");
    const isWhole = row.position + row.tokens.length === sequence.prompt.length;
    if (sequence.pooling === "last") return isWhole ? finite(states.slice()) : undefined;

    const sum = this.#sumOf(sequence, row.position);
    for (let i = 0; i < states.length; i++) sum.values[i % this.#hiddenSize]! += states[i]!;
    sum.tokens += row.tokens.length;
    if (!isWhole) return undefined;
    invariant(sum.tokens === sequence.prompt.length, "a mean is of all tokens");
    return finite(Float32Array.from(sum.values, (value) => value / sum.tokens));
  }

  #sumOf(sequence: object, position: number): Sum {
    const known = this.#sums.get(sequence);
    if (known && position > 0) return known;
    const fresh = { values: new Float64Array(this.#hiddenSize), tokens: 0 };
    this.#sums.set(sequence, fresh);
    return fresh;
  }
}

function finite(vector: Float32Array): Float32Array {
  if (!vector.every(Number.isFinite)) throw new Error("the hidden states are not numbers");
  return vector;
}
