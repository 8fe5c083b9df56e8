/** Reads regular expressions as JavaScript has them; nothing is ever executed. What no grammar can follow is refused. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { allBut, type CodePoints, codePoints } from "./code-points.ts";

export type Regex =
  | { type: "characters"; set: CodePoints }
  | { type: "sequence"; parts: Regex[] }
  | { type: "choice"; options: Regex[] }
  | { type: "repeat"; of: Regex; min: number; max: number | undefined }
  | { type: "anchor"; at: "start" | "end" };

/**
 * @param param what the error names
 * @throws HubError `invalid_value`, `unsupported_parameter` for look-around, back references and word boundaries
 */
export function parseRegex(source: string, param: string): Regex {
  if (source.length > regexCharsMax) {
    throw new HubError(
      "invalid_value",
      `The regular expression has more than ${regexCharsMax} characters.`,
      { param },
    );
  }
  const parser = new Parser(source, param);
  const regex = parser.choice(0);
  parser.end();
  if (sizeOf(regex) > regexSizeMax) {
    throw new HubError(
      "invalid_value",
      `The regular expression stands for more than ${regexSizeMax} characters where its repetitions are written out.`,
      { param },
    );
  }
  return regex;
}

class Parser {
  readonly #characters: string[];
  readonly #param: string;
  #at = 0;

  constructor(source: string, param: string) {
    this.#characters = [...source];
    this.#param = param;
  }

  end(): void {
    if (this.#at < this.#characters.length) this.#fail("a ')' that opens nothing");
  }

  choice(depth: number): Regex {
    if (depth > groupsDepthMax) this.#fail("too many groups in one another");
    const options = [this.#sequence(depth)];
    while (this.#take("|")) options.push(this.#sequence(depth));
    const [only] = options;
    return only && options.length === 1 ? only : { type: "choice", options };
  }

  #sequence(depth: number): Regex {
    const parts: Regex[] = [];
    while (this.#peek() !== undefined && this.#peek() !== "|" && this.#peek() !== ")") {
      parts.push(this.#quantified(this.#atom(depth)));
    }
    return { type: "sequence", parts };
  }

  #atom(depth: number): Regex {
    const character = this.#next();
    switch (character) {
      case "^":
        return { type: "anchor", at: "start" };
      case "$":
        return { type: "anchor", at: "end" };
      case ".":
        return { type: "characters", set: allBut(lineEnds) };
      case "(":
        return this.#group(depth);
      case "[":
        return { type: "characters", set: this.#class() };
      case "\\":
        return { type: "characters", set: this.#escape(false) };
      case "*":
      case "+":
      case "?":
        return this.#fail(`a '${character}' that repeats nothing`);
      default:
        return { type: "characters", set: one(character) };
    }
  }

  #group(depth: number): Regex {
    if (this.#take("?")) {
      const kind = this.#next();
      const isName = kind === "<" && this.#peek() !== "=" && this.#peek() !== "!";
      if (isName) while (this.#next() !== ">") {}
      else if (kind !== ":") this.#refuse("look-around and flags inside of it");
    }
    const inner = this.choice(depth + 1);
    if (!this.#take(")")) this.#fail("a '(' that is not closed");
    return inner;
  }

  #quantified(atom: Regex): Regex {
    const bounds = this.#bounds();
    if (!bounds) return atom;
    if (atom.type === "anchor") this.#fail("an anchor that is repeated");
    // A lazy quantifier matches the same texts.
    this.#take("?");
    if (this.#peek() === "+") this.#refuse("possessive quantifiers");
    const [min, max] = bounds;
    if (max !== undefined && max < min) this.#fail("bounds in the wrong order");
    const repeated: Regex = { type: "repeat", of: atom, min, max };
    if (this.#bounds()) this.#fail("a quantifier behind a quantifier");
    return repeated;
  }

  #bounds(): [number, number | undefined] | undefined {
    if (this.#take("*")) return [0, undefined];
    if (this.#take("+")) return [1, undefined];
    if (this.#take("?")) return [0, 1];
    const found = /^\{(\d{1,5})(?:(,)(\d{1,5})?)?\}/.exec(
      this.#characters.slice(this.#at, this.#at + 14).join(""),
    );
    if (!found) return undefined;
    this.#at += found[0].length;
    const min = Number(found[1]);
    if (found[2] === undefined) return [min, min];
    return [min, found[3] === undefined ? undefined : Number(found[3])];
  }

  #class(): CodePoints {
    const negated = this.#take("^");
    const ranges: [number, number][] = [];
    while (!this.#take("]")) {
      const from = this.#classAtom();
      const rangeFollows = this.#peek() === "-" && this.#characters[this.#at + 1] !== "]";
      if (!rangeFollows) {
        for (const [start, end] of from) ranges.push([start, end]);
        continue;
      }
      this.#at++;
      const [low, high] = [single(from), single(this.#classAtom())];
      if (low === undefined || high === undefined || low > high) return this.#fail("a bad range");
      ranges.push([low, high]);
    }
    return negated ? allBut(ranges) : codePoints(ranges);
  }

  #classAtom(): CodePoints {
    const character = this.#next();
    return character === "\\" ? this.#escape(true) : one(character);
  }

  #escape(inClass: boolean): CodePoints {
    const character = this.#next();
    const known = escapes[character];
    if (known) return known;
    const lower = escapes[character.toLowerCase()];
    if (lower && "DWS".includes(character)) return allBut(lower);
    if (character === "x") return this.#hex(2);
    if (character === "u") return this.#take("{") ? this.#hexUpTo("}") : this.#hex(4);
    if (character === "b" && inClass) return [[8, 8]];
    if (character === "0" && !/\d/.test(this.#peek() ?? "")) return [[0, 0]];
    if (/[0-9k]/.test(character)) this.#refuse("back references");
    if (/[bB]/.test(character)) this.#refuse("word boundaries");
    if (/[a-zA-Z]/.test(character)) this.#refuse(`'\\${character}'`);
    return one(character);
  }

  #hex(length: number): CodePoints {
    return this.#point(Array.from({ length }, () => this.#next()).join(""));
  }

  #hexUpTo(end: string): CodePoints {
    let digits = "";
    for (let next = this.#next(); next !== end; next = this.#next()) digits += next;
    return this.#point(digits);
  }

  #point(digits: string): CodePoints {
    const point = /^[0-9a-f]{1,6}$/i.test(digits) ? Number.parseInt(digits, 16) : Number.NaN;
    const isCharacter = point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff);
    return isCharacter ? [[point, point]] : this.#fail("an escape that is no character");
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #next(): string {
    const character = this.#characters[this.#at++];
    return character ?? this.#fail("an end in the middle");
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }

  #fail(what: string): never {
    throw new HubError(
      "invalid_value",
      `The regular expression has ${what}, at character ${Math.min(this.#at, this.#characters.length)}.`,
      { param: this.#param },
    );
  }

  #refuse(what: string): never {
    throw new HubError(
      "unsupported_parameter",
      `Regular expressions with ${what} are not supported.`,
      { param: this.#param },
    );
  }
}

/** How many characters it stands for where every bounded repetition is written out. */
function sizeOf(regex: Regex): number {
  switch (regex.type) {
    case "sequence":
      return regex.parts.reduce((sum, part) => sum + sizeOf(part), 0);
    case "choice":
      return regex.options.reduce((sum, option) => sum + sizeOf(option), 0);
    case "repeat":
      return sizeOf(regex.of) * Math.max(1, regex.max ?? regex.min + 1);
    default:
      return 1;
  }
}

function one(character: string): CodePoints {
  const point = character.codePointAt(0) ?? 0;
  return codePoints([[point, point]]);
}

function single(set: CodePoints): number | undefined {
  const [range] = set;
  return set.length === 1 && range && range[0] === range[1] ? range[0] : undefined;
}

const lineEnds: CodePoints = codePoints([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
]);
const spaces: CodePoints = codePoints([
  ...[0x20, 0xa0, 0x1680, 0x202f, 0x205f, 0x3000, 0xfeff].map((at) => [at, at] as const),
  [0x09, 0x0d],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
]);
const digits: CodePoints = [[0x30, 0x39]];
const words: CodePoints = codePoints([...digits, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]);
const escapes: Record<string, CodePoints | undefined> = {
  d: digits,
  w: words,
  s: spaces,
  t: [[9, 9]],
  n: [[10, 10]],
  v: [[11, 11]],
  f: [[12, 12]],
  r: [[13, 13]],
};

const regexCharsMax = 2_000;
const regexSizeMax = 4_000;
const groupsDepthMax = 50;
