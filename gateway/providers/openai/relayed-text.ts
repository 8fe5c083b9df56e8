/** Keeps the text of relayed deltas, so that it can be counted when nobody tells the usage. */
import { closingQuote } from "../../http/json-text.ts";

/** The values of keys under which a delta carries model output, found without parsing the JSON. */
export class RelayedText {
  #escaped = "";
  readonly #charsMax: number;
  readonly #place: TextPlace;

  /** @param charsMax bytes kept; what comes after is not counted */
  constructor(charsMax: number, place: TextPlace = chatText) {
    this.#charsMax = charsMax;
    this.#place = place;
  }

  /** @param frame one event's bytes, decoded as Latin-1 */
  add(frame: string): void {
    if (this.#escaped.length >= this.#charsMax) return;
    const delta = frame.indexOf(this.#place.below);
    if (delta === -1) return;
    for (const names of this.#place.keys) {
      const before = this.#escaped.length;
      for (const key of names) {
        if (this.#escaped.length === before) this.#addAll(frame, key, delta);
      }
    }
  }

  #addAll(frame: string, key: string, from: number): void {
    for (let at = frame.indexOf(key, from); at !== -1; at = frame.indexOf(key, at)) {
      const start = at + key.length + (frame.charCodeAt(at + key.length) === space ? 1 : 0);
      at = frame.charCodeAt(start) === quote ? closingQuote(frame, start + 1) : start;
      if (at > start + 1) this.#escaped += frame.slice(start + 1, at);
    }
  }

  get length(): number {
    return this.#escaped.length;
  }

  /** The text as the model wrote it. */
  toString(): string {
    const utf8 = Buffer.from(this.#escaped, "latin1").toString("utf8");
    try {
      return JSON.parse(`"${utf8}"`) as string;
    } catch {
      return utf8;
    }
  }
}

/** Under which keys a frame carries model output, and below which. Where several name the same, one of them counts. */
export type TextPlace = { below: string; keys: readonly (readonly string[])[] };
const chatText: TextPlace = {
  below: '"delta":',
  keys: [
    ['"content":'],
    ['"arguments":'],
    ['"reasoning_content":', '"reasoning":'],
    ['"refusal":'],
  ],
};
/** Of the older completions. */
export const completionText: TextPlace = { below: '"choices":', keys: [['"text":']] };
const space = 32;
const quote = 34;
