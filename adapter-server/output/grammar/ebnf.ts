/**
 * Reads grammars that clients write, in the EBNF that vLLM, xgrammar and llama.cpp share: `name ::= "text" [a-z]+ (a | b)`.
 * They are written anew for xgrammar, because it stops for ever at what it cannot read.
 */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { allBut, type CodePoints, codePoints } from "./code-points.ts";
import { type Expression, type GrammarText, literal, nothing, sequence } from "./grammar-text.ts";

/** @throws HubError `invalid_value` that names the line */
export function ebnfExpression(source: string, text: GrammarText, param: string): Expression {
  if (source.length > sourceCharsMax) {
    throw new HubError(
      "invalid_value",
      `A grammar may have at most ${sourceCharsMax} characters.`,
      {
        param,
      },
    );
  }
  return new Reader(source, text, param).grammar();
}

class Reader {
  readonly #tokens: Token[];
  readonly #text: GrammarText;
  readonly #param: string;
  /** Rules by the names that the client gave them. */
  readonly #rules = new Map<string, { name: string; line: number; defined: boolean }>();
  #at = 0;

  constructor(source: string, text: GrammarText, param: string) {
    this.#text = text;
    this.#param = param;
    this.#tokens = tokens(source, (what, line) => this.#fail(what, line));
  }

  grammar(): Expression {
    while (this.#at < this.#tokens.length) this.#rule();
    for (const [name, { defined, line }] of this.#rules) {
      if (!defined) this.#fail(`the rule '${name.slice(0, 100)}', which is not defined`, line);
    }
    const root = this.#rules.get("root");
    if (!root) return this.#fail("no rule 'root'", 1);
    return root.name;
  }

  #rule(): void {
    const token = this.#next();
    if (token.type !== "name" || this.#next().value !== "::=") {
      this.#fail("something other than 'name ::= …'", token.line);
    }
    const rule = this.#named(token);
    if (rule.defined) this.#fail(`a second rule '${token.value.slice(0, 100)}'`, token.line);
    rule.defined = true;
    this.#text.define(rule.name, this.#choice(0));
  }

  #choice(depth: number): Expression {
    if (depth > depthMax) this.#fail("too many groups in one another", this.#line());
    const options = [this.#sequence(depth)];
    while (this.#take("|")) options.push(this.#sequence(depth));
    return this.#text.choice(options);
  }

  #sequence(depth: number): Expression {
    const parts: Expression[] = [];
    for (let part = this.#atom(depth); part !== undefined; part = this.#atom(depth)) {
      parts.push(this.#repeated(part));
    }
    return sequence(parts);
  }

  /** @returns undefined where the sequence ends */
  #atom(depth: number): Expression | undefined {
    const token = this.#tokens[this.#at];
    const startsRule = token?.type === "name" && this.#tokens[this.#at + 1]?.value === "::=";
    if (!token || startsRule) return undefined;
    switch (token.type) {
      case "text":
        this.#at++;
        return literal(token.value);
      case "class":
        this.#at++;
        if (token.set.length === 0) this.#fail("a set of no characters", token.line);
        return this.#text.character(token.set);
      case "name":
        this.#at++;
        return this.#named(token).name;
      default:
        if (!this.#take("(")) return undefined;
    }
    const inner = this.#choice(depth + 1);
    if (!this.#take(")")) this.#fail("a '(' that is not closed", token.line);
    return inner;
  }

  #repeated(part: Expression): Expression {
    const token = this.#tokens[this.#at];
    if (token?.type !== "times") return part;
    this.#at++;
    const { min, max } = token;
    if (min > timesMax || (max ?? 0) > timesMax || (max !== undefined && max < min)) {
      this.#fail(`a repetition that is not from 0 to ${timesMax}`, token.line);
    }
    if (part === nothing) return nothing;
    return this.#text.repeat(part, min, max);
  }

  #named({ value, line }: Token): { name: string; line: number; defined: boolean } {
    const known = this.#rules.get(value);
    if (known) return known;
    const rule = { name: this.#text.declare(), line, defined: false };
    this.#rules.set(value, rule);
    return rule;
  }

  #take(sign: string): boolean {
    const token = this.#tokens[this.#at];
    if (token?.type !== "sign" || token.value !== sign) return false;
    this.#at++;
    return true;
  }

  #next(): Token {
    return this.#tokens[this.#at++] ?? this.#fail("an end in the middle", this.#line());
  }

  #line(): number {
    return this.#tokens[Math.min(this.#at, this.#tokens.length - 1)]?.line ?? 1;
  }

  #fail(what: string, line: number): never {
    throw new HubError("invalid_value", `The grammar has ${what}, on line ${line}.`, {
      param: this.#param,
    });
  }
}

type Token = { value: string; line: number } & (
  | { type: "name" | "text" | "sign" }
  | { type: "class"; set: CodePoints }
  | { type: "times"; min: number; max: number | undefined }
);

function tokens(source: string, fail: (what: string, line: number) => never): Token[] {
  const found: Token[] = [];
  let line = 1;
  lexer.lastIndex = 0;
  while (lexer.lastIndex < source.length) {
    const start = lexer.lastIndex;
    const match = lexer.exec(source);
    if (!match?.groups)
      return fail(`'${source.slice(start, start + 20)}', which is not understood`, line);
    const { space, name, text, set, times, sign } = match.groups;
    const at = line;
    line += match[0].split("\n").length - 1;
    if (space !== undefined) continue;
    if (name !== undefined) found.push({ type: "name", value: name, line: at });
    else if (text !== undefined) {
      const value = characters(text.slice(1, -1), () => fail("an escape that is no character", at));
      found.push({
        type: "text",
        value: String.fromCodePoint(...value.map(({ point }) => point)),
        line: at,
      });
    } else if (set !== undefined) {
      found.push({
        type: "class",
        value: set,
        line: at,
        set: classOf(set, (what) => fail(what, at)),
      });
    } else if (times !== undefined)
      found.push({ type: "times", value: times, line: at, ...timesOf(times) });
    else found.push({ type: "sign", value: sign ?? "", line: at });
  }
  return found;
}

function classOf(source: string, fail: (what: string) => never): CodePoints {
  const negated = source.startsWith("[^");
  const all = characters(source.slice(negated ? 2 : 1, -1), () =>
    fail("an escape that is no character"),
  );
  const ranges: [number, number][] = [];
  for (let i = 0; i < all.length; i++) {
    const [from, dash, to] = [all[i], all[i + 1], all[i + 2]];
    if (!from) break;
    if (dash && !dash.escaped && dash.point === 0x2d && to) {
      if (to.point < from.point) fail("a range in the wrong order");
      ranges.push([from.point, to.point]);
      i += 2;
    } else ranges.push([from.point, from.point]);
  }
  return negated ? allBut(ranges) : codePoints(ranges);
}

function timesOf(source: string): { min: number; max: number | undefined } {
  if (source === "*") return { min: 0, max: undefined };
  if (source === "+") return { min: 1, max: undefined };
  if (source === "?") return { min: 0, max: 1 };
  const [min = "0", max] = source.slice(1, -1).replaceAll(" ", "").split(",");
  return {
    min: Number(min),
    max: max === undefined ? Number(min) : max === "" ? undefined : Number(max),
  };
}

type Character = { point: number; escaped: boolean };

function characters(source: string, fail: () => never): Character[] {
  return [...source.matchAll(character)].map(([whole, hex, simple]): Character => {
    if (hex !== undefined) {
      const point = Number.parseInt(hex.slice(1), 16);
      return point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff)
        ? { point, escaped: true }
        : fail();
    }
    if (simple === undefined) return { point: whole.codePointAt(0) ?? 0, escaped: false };
    const point = (simpleEscapes[simple] ?? simple).codePointAt(0) ?? 0;
    return /[a-zA-Z0-9]/.test(simple) && simpleEscapes[simple] === undefined
      ? fail()
      : { point, escaped: true };
  });
}

const character = /\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|\\(.)|./gsu;
const simpleEscapes: Record<string, string | undefined> = { n: "\n", r: "\r", t: "\t", "0": "\0" };
const lexer =
  /(?<space>(?:\s|#[^\n]*)+)|(?<name>[A-Za-z_][A-Za-z0-9_.-]*)|(?<text>"(?:[^"\\\n]|\\.)*")|(?<set>\[(?:[^\]\\\n]|\\.)*\])|(?<times>[*+?]|\{ *\d{1,6} *(?:, *\d{0,6} *)?\})|(?<sign>::=|[()|])/uy;
const sourceCharsMax = 65_536;
const depthMax = 50;
const timesMax = 1_000;
