/** Chooses the next token from a row's logits. The choice depends on seed and position, never on the batch. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { uniform } from "./philox.ts";

export type Sampling = {
  /** 0 is greedy. */
  temperature: number;
  /** The smallest set of tokens with at least this mass is drawn from; 1 is all, 0 the likeliest alone. */
  topP: number;
  /** Only this many of the likeliest tokens are drawn from; 0 is all. */
  topK: number;
  /** Divides how likely it is that a token comes again; 1 is no penalty. */
  repetitionPenalty: number;
  seed: number;
  /** Tells apart the choices of one request, which share a seed. */
  stream: number;
};

export class Sampler {
  readonly #weights: Float32Array;
  readonly #order: Int32Array;

  constructor(vocabSize: number) {
    this.#weights = new Float32Array(vocabSize);
    this.#order = new Int32Array(vocabSize);
  }

  /**
   * @param logits    `[vocabSize]`, left as they are
   * @param position  position that the new token will have in its sequence
   * @throws Error when the logits hold no largest number, as a poisoned adapter makes them
   */
  sample(logits: Float32Array, sampling: Sampling, position: number): number {
    const best = argmax(logits);
    invariant(Number.isFinite(logits[best]), "the logits are finite");
    if (sampling.temperature === 0 || sampling.topP === 0) return best;
    const total = this.#weigh(logits, logits[best]!, sampling.temperature);
    invariant(Number.isFinite(total), "the logits are finite");
    const draw = uniform(sampling.seed, sampling.stream, position);
    if (sampling.topP >= 1 && sampling.topK === 0) return this.#drawFromAll(draw * total, best);
    return this.#drawFromLikeliest(draw, sampling, total);
  }

  /** weights = exp((logit − max) / temperature); returns their sum. */
  #weigh(logits: Float32Array, max: number, temperature: number): number {
    const weights = this.#weights;
    let total = 0;
    for (let i = 0; i < logits.length; i++) {
      const weight = Math.exp((logits[i]! - max) / temperature);
      weights[i] = weight;
      total += weights[i]!;
    }
    return total;
  }

  #drawFromAll(target: number, fallback: number): number {
    const weights = this.#weights;
    let mass = 0;
    for (let i = 0; i < weights.length; i++) {
      mass += weights[i]!;
      if (mass > target) return i;
    }
    return fallback;
  }

  /**
   * Draws among the `topK` heaviest tokens, of these among the fewest that hold `topP` of their mass.
   * Without `topK`, tokens lighter than (1 − topP) · total / vocabSize hold less than 1 − topP together,
   * so none of them can be needed, and the heap holds the few others.
   */
  #drawFromLikeliest(draw: number, { topP, topK }: Sampling, total: number): number {
    const weights = this.#weights;
    const order = this.#order;
    const cutoff = topK > 0 ? 0 : ((1 - topP) * total) / weights.length;
    let size = 0;
    for (let i = 0; i < weights.length; i++) if (weights[i]! >= cutoff) order[size++] = i;
    for (let i = (size >> 1) - 1; i >= 0; i--) siftDown(order, weights, i, size);

    const heapSize = size;
    const countMax = topK > 0 ? topK : size;
    const wanted = topK > 0 ? Number.POSITIVE_INFINITY : topP * total;
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

/** The index of the largest number, the first of equals; NaN is never larger. */
function argmax(values: Float32Array): number {
  let best = 0;
  let max = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (values[i]! > max) {
      max = values[i]!;
      best = i;
    }
  }
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
