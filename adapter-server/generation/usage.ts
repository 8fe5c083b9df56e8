/** What an answer took, in tokens. */
import type { ChatUsage } from "../../sdk/protocol/chat.ts";
import type { Piece } from "./choices.ts";

/** Counts pieces as they come. The prompt counts once, however many choices continue it. */
export class UsageCount {
  readonly #promptTokens: number;
  readonly #choices: number;
  #completionTokens = 0;
  /** By prompt, by the choice that found fewest: those that begin later find what the first one computed. */
  readonly #cachedTokens = new Map<number, number>();

  /** @param choices of each prompt; absent where there is one prompt */
  constructor(promptTokens: number, choices = Number.POSITIVE_INFINITY) {
    this.#promptTokens = promptTokens;
    this.#choices = choices;
  }

  add({ choice, tokens, cachedTokens }: Pick<Piece, "choice" | "tokens" | "cachedTokens">): void {
    this.#completionTokens += tokens.length;
    if (cachedTokens === undefined) return;
    const prompt = Math.floor(choice / this.#choices);
    const before = this.#cachedTokens.get(prompt) ?? cachedTokens;
    this.#cachedTokens.set(prompt, Math.min(before, cachedTokens));
  }

  usage(): ChatUsage {
    let cachedTokens = 0;
    for (const cached of this.#cachedTokens.values()) cachedTokens += cached;
    return {
      prompt_tokens: this.#promptTokens,
      completion_tokens: this.#completionTokens,
      total_tokens: this.#promptTokens + this.#completionTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens },
    };
  }
}
