/** Tokens to text while they come, never with half a character. */
import type { Tokenizer } from "../models/tokenizer.ts";

/**
 * Decodes a growing list of tokens. A token may be part of a character, and a tokenizer may write a token otherwise
 * at the start of a text than inside of it, so each piece is what a window's text has more than before. Where that
 * text ends in U+FFFD, an unfinished character may be meant: this one waits, all before it is certain.
 */
export class Detokenizer {
  readonly #decode: (ids: readonly number[]) => string;
  /** The last tokens: some whose text was given out, so that the others are not at the start of a text. */
  #window: number[] = [];
  /** Tokens of the window behind which nothing of what was given out can change. */
  #settled = 0;
  /** Characters of the window's text that were given out. */
  #given = 0;

  constructor(tokenizer: Pick<Tokenizer, "decode">, { skipSpecialTokens = true } = {}) {
    this.#decode = (ids) => tokenizer.decode(ids, { skipSpecialTokens });
  }

  /** The text that this token completes; empty while a character is unfinished. */
  push(token: number): string {
    this.#window.push(token);
    const text = this.#decode(this.#window);
    const waits = text.endsWith(replacement);
    const piece = text.slice(this.#given, waits ? -1 : undefined);
    this.#given += piece.length;
    if (!waits) this.#settle(piece, text);
    else if (this.#window.length >= windowMax) this.#cut(windowKept);
    return piece;
  }

  /** What was held back, at the end of the output. */
  flush(): string {
    if (this.#window.length === 0) return "";
    const piece = this.#decode(this.#window).slice(this.#given);
    this.#given += piece.length;
    return piece;
  }

  /** Nothing waits, so tokens before this one's piece are needed no more. */
  #settle(piece: string, text: string): void {
    if (piece !== "") {
      this.#window = this.#window.slice(this.#settled);
      this.#given = this.#decode(this.#window).length;
    } else if (text !== "") {
      // What is no text would leave the next token at the start of one.
      this.#window.length = this.#settled;
    } else if (this.#window.length >= windowMax) {
      this.#window = this.#window.slice(-windowKept);
    }
    this.#settled = this.#window.length;
  }

  /** Keeps the last tokens of many that are no characters; an unfinished one has four bytes at most. */
  #cut(kept: number): void {
    this.#window = this.#window.slice(-kept);
    this.#settled = 0;
    this.#given = this.#decode(this.#window).length - replacement.length;
  }
}

const replacement = "\ufffd";
const windowMax = 64;
const windowKept = 32;
