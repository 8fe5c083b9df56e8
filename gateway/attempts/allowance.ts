/** How much may be done beyond what was asked for: a share of what is asked, so that trouble is never made larger. */

export type AllowanceOptions = {
  /** Earned by each unit that was asked for; 0.2 allows one more for every five. */
  share: number;
  /** What is there at the start, and the most that is saved up. */
  reserve: number;
};

/**
 * A bucket without a clock: it is filled by ordinary work and emptied by extra work. While everything fails, the extra
 * work is `share` of the ordinary, however many clients ask.
 * @see Finagle's RetryBudget, gRFC A6 (retry throttling)
 */
export class Allowance {
  readonly #options: AllowanceOptions;
  #saved: number;

  constructor(options: AllowanceOptions) {
    this.#options = options;
    this.#saved = options.reserve;
  }

  /** @param amount ordinary work that was begun, such as one request or its tokens */
  earn(amount: number): void {
    const { share, reserve } = this.#options;
    this.#saved = Math.min(reserve, this.#saved + share * amount);
  }

  has(amount: number): boolean {
    return this.#saved >= amount;
  }

  /** @returns whether that much extra work may be done; it is then taken as done */
  spend(amount: number): boolean {
    if (!this.has(amount)) return false;
    this.#saved -= amount;
    return true;
  }
}
