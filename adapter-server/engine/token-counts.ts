/** Which tokens a sequence holds and how often it said each, kept up to date as it grows. */

export class TokenCounts {
  readonly #prompt = new Set<number>();
  readonly #output = new Map<number, number>();
  /** Tokens of the sequence that are counted. */
  #counted = 0;

  /** Tokens of the prompt, each once. */
  get prompt(): ReadonlySet<number> {
    return this.#prompt;
  }

  /** How often each token was said. */
  get output(): ReadonlyMap<number, number> {
    return this.#output;
  }

  /** Counts the tokens that came since the last time; a sequence only grows. */
  take(tokens: readonly number[], promptLength: number): void {
    for (; this.#counted < tokens.length; this.#counted++) {
      const token = tokens[this.#counted]!;
      if (this.#counted < promptLength) this.#prompt.add(token);
      else this.#add(token);
    }
  }

  /** What `compute` finds if these had been said too. */
  supposing<T>(said: readonly number[], compute: () => T): T {
    for (const token of said) this.#add(token);
    try {
      return compute();
    } finally {
      for (const token of said) {
        const left = this.#output.get(token)! - 1;
        if (left === 0) this.#output.delete(token);
        else this.#output.set(token, left);
      }
    }
  }

  #add(token: number): void {
    this.#output.set(token, (this.#output.get(token) ?? 0) + 1);
  }
}
