/** Reads one call, a JSON object with a name and arguments, while it comes, and tells of both as early as they are known. */

export type CallPart = { type: "name"; name: string } | { type: "arguments"; text: string };

type Place = "before key" | "key" | "colon" | "before value" | "value" | "end";

export class CallReader {
  /** All that was read of the object. */
  raw = "";
  #place: Place = "before key";
  #depth = 0;
  #inString = false;
  #escaped = false;
  #key = "";
  #start = 0;
  #name: string | undefined;
  /** Arguments that came before the name. */
  #kept: string | undefined;
  /** A call has arguments once: of those that come again, under the same key or the other, nothing is told. */
  #argued = false;
  #streams = false;

  /** The object is whole. */
  get isDone(): boolean {
    return this.#place === "end";
  }

  get name(): string | undefined {
    return this.#name;
  }

  /** @param character the next one; the first is the opening brace */
  push(character: string): CallPart[] {
    this.raw += character;
    if (this.#inString) this.#insideString(character);
    else if (character === '"') this.#inString = true;
    else if (character === "{" || character === "[") this.#depth++;
    else if (character === "}" || character === "]") this.#depth--;
    const parts = this.#advance(character);
    return this.#streams && this.#place === "value" ? [...parts, argumentsPart(character)] : parts;
  }

  #insideString(character: string): void {
    if (this.#escaped) this.#escaped = false;
    else if (character === "\\") this.#escaped = true;
    else if (character === '"') this.#inString = false;
  }

  #advance(character: string): CallPart[] {
    switch (this.#place) {
      case "before key":
        if (character === '"') this.#begin("key");
        else if (this.#depth === 0) return this.#finish();
        return [];
      case "key":
        if (!this.#inString) {
          this.#key = String(parsed(this.raw.slice(this.#start)));
          this.#place = "colon";
        }
        return [];
      case "colon":
        if (character === ":") this.#place = "before value";
        return [];
      case "before value":
        if (/\s/.test(character)) return [];
        this.#begin("value");
        this.#streams =
          isArguments(this.#key) && character === "{" && this.#name !== undefined && !this.#argued;
        this.#argued ||= this.#streams;
        return [];
      case "value":
        return this.#insideValue(character);
      default:
        return [];
    }
  }

  /** A value ends before the comma or brace behind it, an object with its own. */
  #insideValue(character: string): CallPart[] {
    if (this.#inString || this.#depth > 1 || (character !== "," && character !== "}")) return [];
    if (this.#depth === 1 && character === "}") {
      if (!this.#streams) return [];
      // The last brace of the arguments: what follows is no longer theirs.
      this.#place = "before key";
      this.#streams = false;
      return [argumentsPart(character)];
    }
    const value = this.raw.slice(this.#start, -1);
    const parts = this.#take(value);
    this.#streams = false;
    this.#place = "before key";
    return this.#depth === 0 ? [...parts, ...this.#finish()] : parts;
  }

  #take(source: string): CallPart[] {
    if (this.#key === "name" && this.#name === undefined) {
      const name = parsed(source);
      if (typeof name !== "string") return [];
      this.#name = name;
      const parts: CallPart[] = [{ type: "name", name }];
      if (this.#kept === undefined) return parts;
      return [...parts, argumentsPart(this.#kept)];
    }
    if (!isArguments(this.#key) || this.#argued) return [];
    this.#argued = true;
    const value = parsed(source.trim());
    // Some models write the arguments as the text of an object.
    const text = typeof value === "string" ? value : source.trim();
    if (this.#name !== undefined) return [argumentsPart(text)];
    this.#kept = text;
    return [];
  }

  #finish(): CallPart[] {
    this.#place = "end";
    return [];
  }

  #begin(place: "key" | "value"): void {
    this.#place = place;
    this.#start = this.raw.length - 1;
  }
}

function isArguments(key: string): boolean {
  return key === "arguments" || key === "parameters";
}

function argumentsPart(text: string): CallPart {
  return { type: "arguments", text };
}

function parsed(source: string): unknown {
  try {
    return JSON.parse(source);
  } catch {
    return undefined;
  }
}
