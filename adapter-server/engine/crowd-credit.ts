/** How much of the engine's time crowding tenants get beside others, by what calls were seen to take. */

import type { CallTime } from "./types.ts";

/**
 * What a crowd's rows and prompts add to the steps of others is at most a share of what these take by themselves. A
 * row more costs nearly nothing on one machine and a fifth of a step on another, so it is measured: credit grows with
 * each step of others, and what the crowd adds to one is paid from it. Nothing measured costs nothing.
 */
export class CrowdCredit {
  /** By tokens of a call for rows that decode: what it takes, and 0 where none was seen. */
  readonly #decodeMs: number[] = [];
  #promptTokenMs = 0;
  #creditMs = 0;
  #share = 1;

  /** @param tokens of the call, guesses included */
  observeDecode({ tokens, ms }: CallTime): void {
    const before = this.#decodeMs[tokens] || ms;
    this.#decodeMs[tokens] = before + newsShare * (ms - before);
  }

  observePrompts({ tokens, ms }: CallTime): void {
    if (tokens < promptTokensMin) return;
    const before = this.#promptTokenMs || ms / tokens;
    this.#promptTokenMs = before + newsShare * (ms / tokens - before);
  }

  /** @param share of the time of others that crowds may add from now on */
  begin(share: number): void {
    this.#share = share;
  }

  /** The step decodes so many rows of others. */
  earnRows(rows: number): void {
    if (rows > 0) this.#earn(this.#decodeMsOf(rows));
  }

  /** And so many tokens of their prompts. */
  earnPrompt(tokens: number): void {
    this.#earn(this.#promptTokenMs * tokens);
  }

  /** Whether a crowd may have anything in the step. What one thing costs beyond the credit is owed. */
  get isGood(): boolean {
    return this.#creditMs >= 0;
  }

  /** Beside `others` rows so many of a crowd. */
  payRows(others: number, crowd: number): void {
    this.#pay(this.#decodeMsOf(others + crowd) - this.#decodeMsOf(others));
  }

  payPrompt(tokens: number): void {
    this.#pay(this.#promptTokenMs * tokens);
  }

  #earn(ms: number): void {
    this.#creditMs = Math.min(creditMsMax, this.#creditMs + this.#share * ms);
  }

  #pay(ms: number): void {
    this.#creditMs = Math.max(debtMsMin, this.#creditMs - Math.max(0, ms));
  }

  /** What a call for so many takes; between two that were seen, what lies between them. */
  #decodeMsOf(tokens: number): number {
    if (this.#decodeMs[tokens]) return this.#decodeMs[tokens];
    let below = tokens;
    while (below > 0 && !this.#decodeMs[below]) below--;
    let above = tokens;
    while (above < this.#decodeMs.length && !this.#decodeMs[above]) above++;
    const low = this.#decodeMs[below] ?? 0;
    const high = this.#decodeMs[above] ?? 0;
    if (low === 0 || high === 0) return Math.max(low, high);
    return low + ((high - low) * (tokens - below)) / (above - below);
  }
}

/** How much the last call counts of what is known of its kind. */
const newsShare = 0.1;
/** Smaller calls are mostly what a call takes however small it is. */
const promptTokensMin = 16;
/** What one call that took strangely long may cost a crowd at most. */
const debtMsMin = -500;
/** What a crowd that was away may save. */
const creditMsMax = 20;
