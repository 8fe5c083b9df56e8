/** One guard's way with a text that comes in pieces: nothing goes on that more text could show to be part of a find. */
import type { Detector, Match } from "./detectors/detector.ts";

/** What becomes of a find. @throws what ends the text there */
export type OnMatch = (found: string, match: Match) => string;

export class TextStage {
  readonly #detector: Detector;
  readonly #onMatch: OnMatch;
  /** What has not gone on, after a little of what has, by which words' beginnings are known. */
  #held = "";
  #from = 0;

  constructor(detector: Detector, onMatch: OnMatch) {
    this.#detector = detector;
    this.#onMatch = onMatch;
  }

  /** @returns what may go on; what came before a find that ends the text is in `said` of that error */
  push(text: string): string {
    this.#held += text;
    const isLong = this.#held.length - this.#from > heldCharsMax;
    return this.#read(isLong);
  }

  /** @returns the rest */
  end(): string {
    return this.#read(true);
  }

  #read(isEnd: boolean): string {
    const text = this.#held;
    const from = this.#from;
    let until = isEnd ? text.length : Math.max(from, this.#detector.openFrom(text, from));
    let said = "";
    let at = from;
    for (const match of this.#detector.find(text, from)) {
      const { start, end } = match;
      if (start >= until) break;
      // More text may make it longer, or another.
      if (!isEnd && (end > until || end === text.length)) {
        until = start;
        break;
      }
      said += text.slice(at, start);
      said += this.#onMatch(text.slice(start, end), match);
      at = end;
    }
    said += text.slice(at, until);
    const context = Math.max(0, until - contextChars);
    this.#held = text.slice(context);
    this.#from = until - context;
    return said;
  }
}

/** A whole text at once. */
export function replaceAll(text: string, detector: Detector, onMatch: OnMatch): string {
  let said = "";
  let at = 0;
  for (const match of detector.find(text, 0)) {
    said += text.slice(at, match.start) + onMatch(text.slice(match.start, match.end), match);
    at = match.end;
  }
  return at === 0 ? text : said + text.slice(at);
}

const contextChars = 64;
/** What stays open longer is taken for what it is so far. */
const heldCharsMax = 32_768;
