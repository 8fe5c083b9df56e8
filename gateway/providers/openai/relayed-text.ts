/** Keeps the text of relayed deltas, so that it can be counted when nobody tells the usage. */
import { closingQuote } from "../../http/json-text.ts";

/** The values of keys under which a delta carries model output, found without parsing the JSON. */
export class RelayedText {
  #escaped = "";
  readonly #charsMax: number;

  /** @param charsMax bytes kept; what comes after is not counted */
  constructor(charsMax: number) {
    this.#charsMax = charsMax;
  }

  /** @param frame one event's bytes, decoded as Latin-1 */
  add(frame: string): void {
    if (this.#escaped.length >= this.#charsMax) return;
    const delta = frame.indexOf('"delta":');
    if (delta === -1) return;
    for (const key of outputKeys) {
      for (let at = frame.indexOf(key, delta); at !== -1; at = frame.indexOf(key, at)) {
        const start = at + key.length + (frame.charCodeAt(at + key.length) === space ? 1 : 0);
        at = frame.charCodeAt(start) === quote ? closingQuote(frame, start + 1) : start;
        if (at > start + 1) this.#escaped += frame.slice(start + 1, at);
      }
    }
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

const outputKeys = ['"content":', '"arguments":', '"reasoning_content":', '"refusal":'];
const space = 32;
const quote = 34;
