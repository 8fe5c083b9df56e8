/**
 * How heavy each token of the vocabulary weighs in a draw, with sums and peaks over blocks of tokens: who looks for
 * the few that matter need not walk the many that do not.
 */
import { blocksOf, blockTokens } from "../models/token-blocks.ts";
import type { LogitChanges } from "./logit-changes.ts";

export type TokenWeights = {
  /** Proportional to exp(logit / temperature), `[vocabSize]`. */
  weights: Float32Array;
  /** Sum of each block's weights. */
  masses: Float32Array;
  /** The largest of each block's weights. */
  peaks: Float32Array;
};

/** One row to weigh: `[vocabSize]` logits, and what is changed of them before. */
export type WeighedRow = {
  logits: Float32Array;
  changes?: LogitChanges | undefined;
  /** A bit for each token that may be drawn, 32 to a word; absent where all may. */
  mask?: Int32Array | undefined;
  temperature: number;
};

export function emptyWeights(vocabSize: number): TokenWeights {
  const blocks = blocksOf(vocabSize);
  return {
    weights: new Float32Array(vocabSize),
    masses: new Float32Array(blocks),
    peaks: new Float32Array(blocks),
  };
}

/**
 * Weighs tokens in JavaScript, the heaviest with 1; `native-weights.ts` does so for many rows in a fraction of the time.
 * @param max the largest of the logits
 */
export function weigh(
  into: TokenWeights,
  logits: Float32Array,
  { max, temperature }: { max: number; temperature: number },
): void {
  const { weights, masses, peaks } = into;
  for (let block = 0; block < masses.length; block++) {
    const end = Math.min((block + 1) * blockTokens, logits.length);
    let mass = 0;
    let peak = 0;
    for (let i = block * blockTokens; i < end; i++) {
      weights[i] = Math.exp((logits[i]! - max) / temperature);
      const weight = weights[i]!;
      mass += weight;
      if (weight > peak) peak = weight;
    }
    masses[block] = mass;
    peaks[block] = peak;
  }
}

/**
 * The place of the largest of the logits, the first of equals; NaN is never larger.
 * @param peaks the largest of each block, where they are known
 * @returns -1 when there is none
 */
export function argmax(logits: Float32Array, peaks?: Float32Array): number {
  if (!peaks) return logits.indexOf(largestOf(logits));
  const largest = largestOf(peaks);
  return logits.indexOf(largest, peaks.indexOf(largest) * blockTokens);
}

export function largestOf(values: Float32Array): number {
  let largest = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i]! > largest) largest = values[i]!;
  return largest;
}

/** The weight of all; not a number when one of the logits was none. */
export function totalOf({ masses }: TokenWeights): number {
  let total = 0;
  for (let block = 0; block < masses.length; block++) total += masses[block]!;
  return total;
}

/**
 * Finds all tokens of at least some weight, in the order of their ids.
 * @param found room for the whole vocabulary
 * @returns how many were found
 */
export function tokensFrom(
  { weights, peaks }: TokenWeights,
  least: number,
  found: Int32Array,
): number {
  let count = 0;
  for (let block = 0; block < peaks.length; block++) {
    if (peaks[block]! < least) continue;
    const end = Math.min((block + 1) * blockTokens, weights.length);
    for (let i = block * blockTokens; i < end; i++) if (weights[i]! >= least) found[count++] = i;
  }
  return count;
}

/** A weight that at least `count` tokens have, and few more; 0 when it would have to be looked for. */
export function weightOfAbout({ peaks }: TokenWeights, count: number): number {
  if (count > peaks.length) return 0;
  return peaks.toSorted()[peaks.length - count]!;
}
