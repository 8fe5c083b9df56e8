/**
 * How heavy each token of the vocabulary weighs in a draw, with sums and peaks over blocks of tokens: who looks for
 * the few that matter need not walk the many that do not.
 */

export type TokenWeights = {
  /** Proportional to exp(logit / temperature), `[vocabSize]`. */
  weights: Float32Array;
  /** Sum of each block's weights. */
  masses: Float32Array;
  /** The largest of each block's weights. */
  peaks: Float32Array;
};

/** One row to weigh: `[vocabSize]` logits. */
export type WeighedRow = { logits: Float32Array; temperature: number };

/** Tokens of a block; the last block of a vocabulary may be shorter. */
export const blockTokens = 256;

export function blocksOf(vocabSize: number): number {
  return Math.ceil(vocabSize / blockTokens);
}

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

/** The largest of the logits; NaN is never larger. */
export function largestOf(logits: Float32Array): number {
  // Four at a time, because each comparison waits for the one before.
  let [a, b, c, d] = [-Infinity, -Infinity, -Infinity, -Infinity];
  const whole = logits.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    if (logits[i]! > a) a = logits[i]!;
    if (logits[i + 1]! > b) b = logits[i + 1]!;
    if (logits[i + 2]! > c) c = logits[i + 2]!;
    if (logits[i + 3]! > d) d = logits[i + 3]!;
  }
  let largest = Math.max(a, b, c, d);
  for (let i = whole; i < logits.length; i++) if (logits[i]! > largest) largest = logits[i]!;
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
