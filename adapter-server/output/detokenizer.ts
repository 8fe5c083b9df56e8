/** Tokens to text while they come, never with half a character. */
import type { Tokenizer } from "../models/tokenizer.ts";

/**
 * Decodes a growing list of tokens. A token may be part of a character, and a tokenizer may write a
 * token otherwise at the start of a text than inside of it, so each piece is the difference of two
 * decoded texts that share a start. A text that ends in U+FFFD may be an unfinished character: it waits.
 */
export class Detokenizer {
  readonly #decode: (ids: readonly number[]) => string;
  /** Tokens from the last two pieces on; what came before no longer changes. */
  #window: number[] = [];
  /** Length of the window whose text was given out. */
  #shown = 0;
  #shownText = "";

  constructor(tokenizer: Pick<Tokenizer, "decode">, { skipSpecialTokens = true } = {}) {
    this.#decode = (ids) => tokenizer.decode(ids, { skipSpecialTokens });
  }

  /** The text that this token completes; empty while a character is unfinished. */
  push(token: number): string {
    this.#window.push(token);
    const text = this.#decode(this.#window);
    const waits = text.endsWith(replacement) && this.#window.length - this.#shown < tokensHeldMax;
    return waits ? "" : this.#give(text);
  }

  /** What was held back, at the end of the output. */
  flush(): string {
    return this.#window.length === this.#shown ? "" : this.#give(this.#decode(this.#window));
  }

  #give(text: string): string {
    const piece = text.slice(this.#shownText.length);
    this.#window = this.#window.slice(this.#shown);
    this.#shown = this.#window.length;
    this.#shownText = this.#decode(this.#window);
    return piece;
  }
}

const replacement = "\ufffd";
/** A character has at most four bytes; whoever holds back more waits for one that never comes. */
const tokensHeldMax = 8;
