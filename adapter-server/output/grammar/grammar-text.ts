/** Writes grammars in xgrammar's EBNF over the alphabet of `ascii-bytes.ts`. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { isPlain, spelled, toAscii } from "./ascii-bytes.ts";
import { type CodePoints, utf8Ranges } from "./code-points.ts";
import type { Grammar } from "./matchers.ts";
import type { SchemaWork } from "./schema.ts";

/**
 * Texts, character classes and names of rules, one after the other. Never a choice: xgrammar 0.1.27 merges states of
 * a rule's automaton that are not alike (mlc-ai/xgrammar#618, #752, #911: of numbers with 4 to 12 digits it takes one
 * with 3), so here a rule is either one sequence or a choice between names, where nothing can be merged.
 */
export type Expression = string;

export const nothing: Expression = '""';

export type GrammarTextLimits = {
  /** Characters of the whole grammar. */
  grammarCharsMax: number;
  /** How often all of a grammar's right sides together may be looked up again. */
  grammarLookupsMax: number;
  /** Schemas within one JSON schema, and how deep in one another. */
  schemasMax: number;
  schemaDepthMax: number;
  /** Comparisons of two values that all schemas may take together: the default is some hundred times what large ones of real use do. */
  schemaWorkMax: number;
};

export class GrammarText {
  readonly #rules = new Map<string, Expression>();
  readonly #names = new Map<Expression, string>();
  readonly #loops = new Map<string, string>();
  readonly #repeats = new Map<string, Expression>();
  readonly limits: Readonly<GrammarTextLimits>;
  /** Of all schemas together: a request may have one for each tool. */
  readonly schemaWork: SchemaWork;
  #chars = 0;
  /** Characters of right sides that were there already: they take no room, but time. */
  #charsAgain = 0;

  constructor(limits: GrammarTextLimits) {
    this.limits = limits;
    this.schemaWork = { left: limits.schemaWorkMax };
  }

  /** The name of a rule with this right side; the same one for the same side. */
  rule(expression: Expression): Expression {
    const known = this.#names.get(expression);
    if (known !== undefined) {
      this.#charsAgain += expression.length;
      const { grammarCharsMax, grammarLookupsMax } = this.limits;
      if (this.#charsAgain > grammarCharsMax * grammarLookupsMax) throw this.#tooLarge();
      return known;
    }
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
    if (this.#chars > this.limits.grammarCharsMax) throw this.#tooLarge();
    this.#rules.set(name, expression);
  }

  #tooLarge(): HubError {
    return new HubError(
      "invalid_value",
      `The output's format makes a grammar of more than ${this.limits.grammarCharsMax} characters; simplify it.`,
    );
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

  /** A choice between options that begin with different characters; masks of a loop over them are known beforehand. */
  branch(options: readonly Expression[]): Expression {
    return this.rule(options.join(" | "));
  }

  /**
   * Characters stand in the rule that repeats them: a token that goes beyond the end of a rule has to be matched
   * anew in each step, which took ten times as long as the step where each character was a rule of its own.
   * @param item  an expression, or options that begin with different characters
   * @param max   absent for no bound
   */
  repeat(item: Expression | readonly Expression[], min: number, max?: number): Expression {
    const options = typeof item === "string" ? [item] : item;
    if (max === 0 || options[0] === nothing) return nothing;
    const key = `${min} ${max} ${options.join(" | ")}`;
    const known = this.#repeats.get(key);
    if (known !== undefined) return known;
    const repeated = this.#repeated(options, min, max);
    this.#repeats.set(key, repeated);
    return repeated;
  }

  #repeated(options: readonly Expression[], min: number, max: number | undefined): Expression {
    const followedBy = (rest: Expression) => options.map((option) => sequence([option, rest]));
    let rest = max === undefined ? this.#anyNumberOf(options) : nothing;
    for (let count = min; count < (max ?? min); count++) {
      rest = this.branch([nothing, ...followedBy(rest)]);
    }
    for (let count = 0; count < min; count++) rest = this.branch(followedBy(rest));
    return rest;
  }

  /** One character of a set. */
  character(set: CodePoints): Expression {
    return this.choice(this.characters(set));
  }

  /** One character of a set, as options that begin with different characters. */
  characters(set: CodePoints): Expression[] {
    const plain = classOf(set.flatMap(([from, to]) => plainRanges(from, Math.min(to, 0x7f))));
    const rests = new Map<number, Expression[]>();
    for (const [first = [0, 0], ...others] of utf8Ranges(set)) {
      for (const [from, to] of quarters(first[0], first[1])) {
        const [[quarter, low], [, high]] = [spelled(from), spelled(to)];
        const more = others.map(([start, end]) => this.#spelledByte(start, end));
        const rest = sequence([...classOf([[low, high]]), ...more]);
        rests.set(quarter, [...(rests.get(quarter) ?? []), rest]);
      }
    }
    const other = [...rests].map(([quarter, ends]) =>
      sequence([`"${escaped(quarter)}"`, this.choice(ends)]),
    );
    return [...plain, ...other];
  }

  #anyNumberOf(options: readonly Expression[]): Expression {
    const key = options.join(" | ");
    const known = this.#loops.get(key);
    if (known !== undefined) return known;
    const loop = this.declare();
    this.#loops.set(key, loop);
    const more = options.map((option) => sequence([option, loop]));
    this.define(loop, [nothing, ...more].join(" | "));
    return loop;
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

/** Bytes of a range that do not stand for themselves, by runs within a quarter of all bytes. */
function quarters(from: number, to: number): [from: number, to: number][] {
  const runs: [number, number][] = [];
  for (let byte = from; byte <= to; byte++) {
    if (isPlain(byte)) continue;
    const last = runs.at(-1);
    if (last?.[1] === byte - 1 && last[0] >> 6 === byte >> 6) last[1] = byte;
    else runs.push([byte, byte]);
  }
  return runs;
}

/** @param from and `to` are in one quarter */
function spelledRange(from: number, to: number): Expression {
  const [[quarter, first], [, last]] = [spelled(from), spelled(to)];
  return `"${escaped(quarter)}" ${classOf([[first, last]])[0]}`;
}

function escaped(byte: number): string {
  return `\\u${byte.toString(16).padStart(4, "0")}`;
}
