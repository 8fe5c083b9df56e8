/** How many tokens of prompts a step may have, so that nobody waits long for the one under way. */

import type { CallTime } from "./types.ts";

export type PromptPaceLimits = {
  /** Tokens that one step computes, decode and prefill together. */
  stepTokensMax: number;
  /** How long a step may take for tokens of prompts; absent or 0 is however long they take. */
  promptMsMax?: number;
};

/**
 * Prompts come in as many tokens a step as this machine computes in the time that is given to them. Whoever runs meanwhile
 * waits that long for its next token, and whoever comes for its first; 512 tokens are 0.1 s of one machine and 1.3 s
 * of another. What calls take is the only thing that is known of the machine: one that took too long makes the next ones
 * smaller at once, one that was at least half full and had time left makes them larger, up to twice as large.
 */
export class PromptPace {
  readonly #limits: PromptPaceLimits;
  #tokensMax: number;

  constructor(limits: PromptPaceLimits) {
    this.#limits = limits;
    this.#tokensMax = limits.stepTokensMax;
  }

  /** Tokens of prompts that one step may have. */
  get tokensMax(): number {
    return this.#tokensMax;
  }

  /** What a call for tokens of prompts took. */
  observe({ tokens, ms }: CallTime): void {
    const { stepTokensMax, promptMsMax = 0 } = this.#limits;
    if (promptMsMax === 0 || ms <= 0) return;
    const fit = Math.floor((tokens * promptMsMax) / ms);
    const isSlow = fit < tokens;
    // A call that was not even half full says nothing of larger ones: what one takes however small it is would count as often.
    if (!isSlow && 2 * tokens < this.#tokensMax) return;
    const least = isSlow ? Math.min(tokensMin, stepTokensMax) : this.#tokensMax;
    const most = Math.min(2 * this.#tokensMax, stepTokensMax);
    this.#tokensMax = Math.max(least, Math.min(fit, most));
  }
}

/** A call for few tokens takes nearly as long as one for these. */
const tokensMin = 32;
