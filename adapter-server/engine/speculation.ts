/** Decides how many tokens a step guesses ahead, and counts what became of the guesses. */
import { supposedMax } from "../output/grammar/mask-memory.ts";
import type { Sequence } from "./sequence.ts";

export type SpeculationStats = {
  /** Rows with guesses, the tokens guessed in them, and those of them that the model said as well. */
  rows: number;
  guessed: number;
  held: number;
};

/**
 * Verifying a few guessed tokens costs hardly more than computing one, as long as a step has few rows. So guesses
 * fill a step up to a number of tokens, and one that is full of sequences has none.
 */
export class Speculation {
  readonly stats: SpeculationStats = { rows: 0, guessed: 0, held: 0 };
  readonly #tokensMax: number;

  /** @param tokensMax tokens of a step's decode rows, guesses included, up to which tokens are guessed; 0 for never */
  constructor(tokensMax: number) {
    this.#tokensMax = tokensMax;
  }

  /** Tokens that may be guessed in a step that decodes so many sequences. */
  room(decoding: number): number {
    return Math.max(0, this.#tokensMax - decoding);
  }

  /**
   * At most `max` tokens that may come next; none behind the last that the sequence may say. Behind each token of one
   * that follows a grammar a mask has to be found, so these are fewer.
   */
  guess({ lookup, tokens, prompt, maxTokens, grammar }: Sequence, max: number): number[] {
    const left = prompt.length + maxTokens - tokens.length;
    return lookup.guess(tokens, Math.min(max, left - 1, grammar ? supposedMax : max));
  }

  /** @param held how many of the guessed tokens the model said as well */
  observe({ lookup, tokens }: Sequence, guessed: number, held: number): void {
    if (guessed <= 0) return;
    lookup.observe({ guessed, held, length: tokens.length });
    this.stats.rows++;
    this.stats.guessed += guessed;
    this.stats.held += held;
  }
}
