/** Chooses the next token from a row's logits. The choice depends on seed and position, never on the batch. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { blockTokens } from "../models/token-blocks.ts";
import type { LogitWishes } from "./logit-changes.ts";
import { argmaxAllowed } from "./masked-logits.ts";
import { uniform } from "./philox.ts";
import {
  argmax,
  emptyWeights,
  largestOf,
  type TokenWeights,
  tokensFrom,
  totalOf,
  weigh,
  weightOfAbout,
} from "./token-weights.ts";

export type Sampling = LogitWishes & {
  /** 0 is greedy, and so is what is next to it. */
  temperature: number;
  /** The smallest set of tokens with at least this mass is drawn from; 1 is all, 0 the likeliest alone. */
  topP: number;
  /** Only this many of the likeliest tokens are drawn from; 0 is all. */
  topK: number;
  /** Tokens less likely than this share of the likeliest one are not drawn; absent or 0 is all. */
  minP?: number;
  seed: number;
  /** Tells apart the choices of one request, which share a seed. */
  stream: number;
};

export class Sampler {
  readonly #own: TokenWeights;
  readonly #order: Int32Array;

  constructor(vocabSize: number) {
    this.#own = emptyWeights(vocabSize);
    this.#order = new Int32Array(vocabSize);
  }

  /**
   * @param logits    `[vocabSize]`, left as they are
   * @param position  position that the new token will have in its sequence
   * @param known     what was found out before: the tokens' weights at the temperature, the largest of each block of
   *   logits, and where the likeliest is taken a bit for each token that may be
   * @throws Error when the logits hold no largest number, as a poisoned adapter makes them
   */
  sample(
    logits: Float32Array,
    sampling: Sampling,
    position: number,
    known: {
      weights?: TokenWeights | undefined;
      peaks?: Float32Array | undefined;
      mask?: Int32Array | undefined;
    } = {},
  ): number {
    const { temperature, topP, topK, minP = 0 } = sampling;
    if (isGreedy(sampling)) return finiteArgmax(logits, known.peaks, known.mask);
    if (!known.weights) {
      const max = logits[finiteArgmax(logits, known.peaks)]!;
      weigh(this.#own, logits, { max, temperature });
    }
    const weights = known.weights ?? this.#own;
    const total = totalOf(weights);
    invariant(Number.isFinite(total), "the logits are finite");
    const draw = uniform(sampling.seed, sampling.stream, position);
    if (topP >= 1 && topK === 0 && minP <= 0) return drawFromAll(weights, draw * total);
    return this.#drawFromLikeliest(weights, draw, { topP, topK, minP, total });
  }

  /**
   * Draws among the tokens of at least `minP` of the heaviest one's weight, of these among the `topK` heaviest,
   * and of these among the fewest that hold `topP` of their mass. Without `topK`, tokens lighter than
   * (1 − topP) · mass / count hold less than 1 − topP together, so none of them can be needed, and the heap
   * holds the few others.
   */
  #drawFromLikeliest(
    all: TokenWeights,
    draw: number,
    { topP, topK, minP, total }: Record<"topP" | "topK" | "minP" | "total", number>,
  ): number {
    const { weights } = all;
    const order = this.#order;
    const least = minP > 0 ? minP * largestOf(all.peaks) : 0;
    const held =
      minP > 0 && topK === 0 ? massFrom(all, least, order) : { mass: total, count: weights.length };
    const cutoff = topK > 0 ? weightOfAbout(all, topK) : ((1 - topP) * held.mass) / held.count;
    let size = tokensFrom(all, Math.max(cutoff, least), order);
    for (let i = (size >> 1) - 1; i >= 0; i--) siftDown(order, weights, i, size);

    const heapSize = size;
    const countMax = topK > 0 ? topK : size;
    const wanted = topK > 0 ? Number.POSITIVE_INFINITY : topP * held.mass;
    let mass = 0;
    // Popped tokens gather behind the heap, the heaviest last.
    while (size > 0 && heapSize - size < countMax && mass < wanted) {
      const top = order[0]!;
      mass += weights[top]!;
      size--;
      order[0] = order[size]!;
      order[size] = top;
      siftDown(order, weights, 0, size);
    }
    if (topK > 0 && topP < 1) {
      const wantedOfK = topP * mass;
      mass = 0;
      size = heapSize;
      while (mass < wantedOfK) mass += weights[order[--size]!]!;
    }
    let rest = draw * mass;
    for (let i = heapSize - 1; i >= size; i--) {
      rest -= weights[order[i]!]!;
      if (rest < 0) return order[i]!;
    }
    return order[heapSize - 1]!;
  }
}

/** Whether the likeliest token is taken, whatever its weight. */
export function isGreedy({ temperature, topP }: Sampling): boolean {
  return temperature < temperatureMin || topP <= 0;
}

/** What the tokens of at least some weight hold together, and how many they are. */
function massFrom(
  all: TokenWeights,
  least: number,
  found: Int32Array,
): { mass: number; count: number } {
  const count = tokensFrom(all, least, found);
  let mass = 0;
  for (let i = 0; i < count; i++) mass += all.weights[found[i]!]!;
  return { mass, count };
}

/** @param target less than the weight of all */
function drawFromAll({ weights, masses }: TokenWeights, target: number): number {
  let rest = target;
  let block = 0;
  while (block < masses.length - 1 && rest >= masses[block]!) rest -= masses[block++]!;
  const end = Math.min((block + 1) * blockTokens, weights.length);
  // A block's weights may add up to a little less than its mass; its last token that weighs anything is next.
  let last = block * blockTokens;
  for (let i = last; i < end; i++) {
    if (weights[i] === 0) continue;
    last = i;
    rest -= weights[i]!;
    if (rest < 0) break;
  }
  return last;
}

/** @throws Error when the largest is infinite, or none is a number */
function finiteArgmax(
  logits: Float32Array,
  peaks: Float32Array | undefined,
  mask?: Int32Array | undefined,
): number {
  const best = mask ? argmaxAllowed(logits, mask, peaks) : argmax(logits, peaks);
  invariant(Number.isFinite(logits[best]), "the logits are finite");
  return best;
}

/** Heaviest on top; of equals the lower token, so that the order is one and the same everywhere. */
function siftDown(order: Int32Array, weights: Float32Array, start: number, size: number): void {
  let parent = start;
  for (;;) {
    let child = 2 * parent + 1;
    if (child >= size) return;
    if (child + 1 < size && before(order[child + 1]!, order[child]!, weights)) child++;
    if (!before(order[child]!, order[parent]!, weights)) return;
    const swap = order[parent]!;
    order[parent] = order[child]!;
    order[child] = swap;
    parent = child;
  }
}

function before(a: number, b: number, weights: Float32Array): boolean {
  return weights[a]! > weights[b]! || (weights[a]! === weights[b]! && a < b);
}

/** Logits divided by less run out of float32; the likeliest token would hold nearly all of the weight anyway. */
const temperatureMin = 1e-5;
