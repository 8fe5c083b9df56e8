/** Makes tokens less likely that a sequence holds already, in its prompt or in what it has said. */

export class RepetitionPenalty {
  readonly #penalized: Float32Array;

  constructor(vocabSize: number) {
    this.#penalized = new Float32Array(vocabSize);
  }

  /**
   * Each token of the sequence once, however often it stands there: its logit divided by the penalty
   * where it is above zero, multiplied where it is below.
   * @param logits  `[vocabSize]`, left as they are
   * @param parts   of the sequence's tokens, prompt and output
   * @param penalty above zero; more than 1 avoids repetition
   * @returns valid until the next call
   * @see CTRL, arXiv:1909.05858 §4.1, over prompt and output as transformers and vLLM compute it
   */
  apply(
    logits: Float32Array,
    parts: readonly (readonly number[])[],
    penalty: number,
  ): Float32Array {
    if (penalty === 1) return logits;
    this.#penalized.set(logits);
    for (const tokens of parts) {
      for (const token of tokens) {
        const logit = logits[token]!;
        this.#penalized[token] = logit > 0 ? logit / penalty : logit * penalty;
      }
    }
    return this.#penalized;
  }
}
