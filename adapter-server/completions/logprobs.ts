/** OpenAI's older shape of log-probabilities: parallel lists of tokens by their text. */
import type { TextLogprobs } from "../../sdk/protocol/completions.ts";
import type { ChosenToken } from "../generation/choices.ts";
import type { Tokenizer } from "../models/tokenizer.ts";

type TokenBytes = Pick<Tokenizer, "bytesOf">;

/** Writes the lists piece by piece; offsets go on where the piece before ended. */
export class TextLogprobsWriter {
  readonly #tokenizer: TokenBytes;
  readonly #count: number;
  #offset = 0;

  /** @param count how many of the likeliest tokens to show */
  constructor(tokenizer: TokenBytes, count: number) {
    this.#tokenizer = tokenizer;
    this.#count = count;
  }

  /** @param chosen the first token of a prompt has nothing before it, so it comes without a probability */
  write(chosen: readonly (ChosenToken | { token: number; logprob: null })[]): TextLogprobs {
    const lists: TextLogprobs = {
      tokens: [],
      token_logprobs: [],
      top_logprobs: [],
      text_offset: [],
    };
    for (const one of chosen) {
      lists.tokens.push(this.#show(one.token));
      lists.token_logprobs.push(one.logprob);
      lists.top_logprobs.push(one.logprob === null ? null : this.#top(one));
      lists.text_offset.push(this.#offset);
      this.#offset += charactersOf(this.#tokenizer.bytesOf(one.token));
    }
    return lists;
  }

  /** Of tokens with the same text the likeliest counts. */
  #top({ token, logprob, top }: ChosenToken): Record<string, number> {
    const shown = new Map<string, number>();
    for (const one of [...top.slice(0, this.#count), { token, logprob }]) {
      const text = this.#show(one.token);
      if (!shown.has(text)) shown.set(text, one.logprob);
    }
    return Object.fromEntries(shown);
  }

  /** As OpenAI shows what is no text by itself, so that no two such tokens look alike. */
  #show(token: number): string {
    const bytes = this.#tokenizer.bytesOf(token);
    try {
      return strictDecoder.decode(bytes);
    } catch {
      const hex = [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`);
      return `bytes:${hex.join("")}`;
    }
  }
}

/** Characters that begin in these bytes: a character of several tokens counts with its first one. */
function charactersOf(bytes: Uint8Array): number {
  return bytes.reduce((count, byte) => ((byte & 0xc0) === 0x80 ? count : count + 1), 0);
}

const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
