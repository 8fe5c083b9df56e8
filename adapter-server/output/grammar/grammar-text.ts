/** Writes grammars in xgrammar's EBNF over the alphabet of `ascii-bytes.ts`. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { isPlain, spelled, toAscii } from "./ascii-bytes.ts";
import { type ByteRanges, type CodePoints, utf8Ranges } from "./code-points.ts";
import type { Grammar } from "./matchers.ts";

/**
 * Texts, character classes and names of rules, one after the other. Never a choice: xgrammar 0.1.27 merges states of
 * a rule's automaton that are not alike (mlc-ai/xgrammar#618, #752, #911: of numbers with 4 to 12 digits it takes one
 * with 3), so here a rule is either one sequence or a choice between names, where nothing can be merged.
 */
export type Expression = string;

export const nothing: Expression = '""';

export class GrammarText {
  readonly #rules = new Map<string, Expression>();
  readonly #names = new Map<Expression, string>();
  readonly #loops = new Map<string, string>();
  readonly #charsMax: number;
  #chars = 0;

  /** @param charsMax of the whole grammar */
  constructor(charsMax: number) {
    this.#charsMax = charsMax;
  }

  /** The name of a rule with this right side; the same one for the same side. */
  rule(expression: Expression): Expression {
    const known = this.#names.get(expression);
    if (known !== undefined) return known;
    const name = this.declare();
    this.define(name, expression);
    this.#names.set(expression, name);
    return name;
  }

  /** The name of a rule that is defined later, since it leads back to itself. */
  declare(): string {
    const name = `r${this.#rules.size}`;
    this.#rules.set(name, nothing);
    return name;
  }

  define(name: string, expression: Expression): void {
    this.#chars += name.length + expression.length + 6;
    if (this.#chars > this.#charsMax) {
      throw new HubError(
        "invalid_value",
        `The output's format makes a grammar of more than ${this.#charsMax} characters; simplify it.`,
      );
    }
    this.#rules.set(name, expression);
  }

  choice(options: readonly Expression[]): Expression {
    const names = [...new Set(options)].map((option) =>
      option === nothing ? nothing : this.rule(option),
    );
    return names.length === 1 ? (names[0] ?? nothing) : this.rule(names.join(" | "));
  }

  optional(expression: Expression): Expression {
    return this.choice([nothing, expression]);
  }

  /** @param max absent for no bound */
  repeat(expression: Expression, min: number, max?: number): Expression {
    if (max === 0 || expression === nothing) return nothing;
    const name = this.rule(expression);
    if (max !== undefined)
      return min === 1 && max === 1 ? name : this.rule(`${name}{${min},${max}}`);
    const more = this.#anyNumberOf(name);
    return sequence([...new Array<Expression>(min).fill(name), more]);
  }

  /** One character of a set. */
  character(set: CodePoints): Expression {
    return this.choice([
      ...classOf(set.flatMap(([from, to]) => plainRanges(from, Math.min(to, 0x7f)))),
      ...utf8Ranges(set).flatMap((bytes) => this.#spelled(bytes)),
    ]);
  }

  #anyNumberOf(name: string): Expression {
    const known = this.#loops.get(name);
    if (known !== undefined) return known;
    const loop = this.declare();
    this.#loops.set(name, loop);
    this.define(loop, `${nothing} | ${this.rule(sequence([name, loop]))}`);
    return loop;
  }

  /** A sequence of byte ranges as what spells it; nothing for bytes that stand for themselves. */
  #spelled(bytes: ByteRanges): Expression[] {
    const [only] = bytes;
    if (bytes.length === 1 && only) {
      const controls: Expression[] = [];
      for (let byte = only[0]; byte <= only[1]; byte++) {
        if (!isPlain(byte)) controls.push(spelledRange(byte, byte));
      }
      return controls;
    }
    return [sequence(bytes.map(([from, to]) => this.#spelledByte(from, to)))];
  }

  /** @param from and `to` are no plain bytes, and none between them is */
  #spelledByte(from: number, to: number): Expression {
    const parts: Expression[] = [];
    for (let start = from; start <= to; start = (start | 63) + 1) {
      parts.push(spelledRange(start, Math.min(to, start | 63)));
    }
    return this.choice(parts);
  }

  /** The whole, which begins with this. */
  grammar(start: Expression): Grammar {
    const rules = [...this.#rules].map(([name, expression]) => `${name} ::= ${expression}`);
    return { ebnf: [`root ::= ${start}`, ...rules].join("\n") };
  }
}

export function literal(text: string): Expression {
  if (text === "") return nothing;
  const ascii = toAscii(new TextEncoder().encode(text));
  const quoted = ascii.replace(/[^ !#-[\]-~]/g, (character) => escaped(character.charCodeAt(0)));
  return `"${quoted}"`;
}

export function sequence(parts: readonly Expression[]): Expression {
  const said = parts.filter((part) => part !== nothing);
  return said.length === 0 ? nothing : said.join(" ");
}

/** The characters of a range that stand for themselves. */
function plainRanges(from: number, to: number): [number, number][] {
  const ranges: [number, number][] = [];
  for (let byte = from; byte <= to; byte++) {
    if (!isPlain(byte)) continue;
    const last = ranges.at(-1);
    if (last?.[1] === byte - 1) last[1] = byte;
    else ranges.push([byte, byte]);
  }
  return ranges;
}

function classOf(ranges: readonly (readonly [number, number])[]): Expression[] {
  if (ranges.length === 0) return [];
  const parts = ranges.map(([from, to]) =>
    from === to ? escaped(from) : `${escaped(from)}-${escaped(to)}`,
  );
  return [`[${parts.join("")}]`];
}

/** @param from and `to` are in one quarter */
function spelledRange(from: number, to: number): Expression {
  const [[quarter, first], [, last]] = [spelled(from), spelled(to)];
  return `"${escaped(quarter)}" ${classOf([[first, last]])[0]}`;
}

function escaped(byte: number): string {
  return `\\u${byte.toString(16).padStart(4, "0")}`;
}
