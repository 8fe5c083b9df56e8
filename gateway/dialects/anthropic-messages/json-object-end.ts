/** Finds the end of a JSON object that comes in pieces, without keeping them. */

export class JsonObjectEnd {
  /** Whether the object was closed. */
  reached = false;
  #depth = 0;
  #inString = false;
  #escaped = false;

  read(piece: string): void {
    for (const char of piece) {
      if (this.#escaped) this.#escaped = false;
      else if (this.#inString) {
        if (char === "\\") this.#escaped = true;
        else if (char === '"') this.#inString = false;
      } else if (char === '"') this.#inString = true;
      else if (char === "{" || char === "[") this.#depth++;
      else if ((char === "}" || char === "]") && --this.#depth === 0) this.reached = true;
    }
  }
}
