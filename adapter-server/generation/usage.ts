/** What an answer took, in tokens. */
import type { ChatUsage } from "../../sdk/protocol/chat.ts";
import type { Piece } from "./choices.ts";

/** Counts pieces as they come. The prompt counts once, however many choices continue it. */
export class UsageCount {
  readonly #promptTokens: number;
  #completionTokens = 0;
  /** By the choice that found fewest: those that begin later find what the first one computed. */
  #cachedTokens: number | undefined;

  constructor(promptTokens: number) {
    this.#promptTokens = promptTokens;
  }

  add({ tokens, cachedTokens }: Piece): void {
    this.#completionTokens += tokens.length;
    if (cachedTokens === undefined) return;
    this.#cachedTokens = Math.min(this.#cachedTokens ?? cachedTokens, cachedTokens);
  }

  usage(): ChatUsage {
    return {
      prompt_tokens: this.#promptTokens,
      completion_tokens: this.#completionTokens,
      total_tokens: this.#promptTokens + this.#completionTokens,
      prompt_tokens_details: { cached_tokens: this.#cachedTokens ?? 0 },
    };
  }
}
