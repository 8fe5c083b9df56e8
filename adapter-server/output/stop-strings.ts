/** Ends a text at the first stop string, also when the string comes in several pieces. */

export class StopStrings {
  readonly #stops: readonly string[];
  readonly #includeStop: boolean;
  /** The end of the text so far, when a stop string may have begun there. */
  #held = "";
  #found: string | undefined;

  /**
   * @param stops       empty ones are ignored
   * @param includeStop whether the text ends with the stop string, and not before it
   */
  constructor(stops: readonly string[], { includeStop = false } = {}) {
    this.#stops = stops.filter((stop) => stop !== "");
    this.#includeStop = includeStop;
  }

  /** True once a stop string was found; from then on nothing more is text. */
  get stopped(): boolean {
    return this.#found !== undefined;
  }

  /** The stop string that was found. */
  get found(): string | undefined {
    return this.#found;
  }

  /** The text that is certain not to belong to a stop string. */
  push(piece: string): string {
    if (this.stopped || piece === "") return "";
    if (this.#stops.length === 0) return piece;
    const text = this.#held + piece;
    const found = this.#firstStop(text);
    if (found) {
      this.#found = text.slice(found.start, found.end);
      this.#held = "";
      return text.slice(0, this.#includeStop ? found.end : found.start);
    }
    const certain = text.length - this.#possibleStart(text);
    this.#held = text.slice(certain);
    return text.slice(0, certain);
  }

  /** What was held back, at the end of the output. */
  flush(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  /**
   * Where the stop string lies that is complete first, the longest of those that end together. So
   * the cut does not depend on how the text was pieced.
   */
  #firstStop(text: string): { start: number; end: number } | undefined {
    let start = -1;
    let end = Number.POSITIVE_INFINITY;
    for (const stop of this.#stops) {
      const index = text.indexOf(stop);
      const stopEnd = index + stop.length;
      if (index === -1 || stopEnd > end || (stopEnd === end && index > start)) continue;
      start = index;
      end = stopEnd;
    }
    return start === -1 ? undefined : { start, end };
  }

  /** Length of the longest end of the text with which a stop string begins. */
  #possibleStart(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
