/** JSON as grammars: compact but for one space that may follow a colon or a comma, so that no white space goes on for ever. */
import { allBut } from "./code-points.ts";
import { type Expression, type GrammarText, literal, sequence } from "./grammar-text.ts";
import { digitsMax } from "./number-range.ts";

export class JsonText {
  readonly #text: GrammarText;
  #value: string | undefined;

  constructor(text: GrammarText) {
    this.#text = text;
  }

  comma(): Expression {
    return this.#text.choice([literal(","), literal(", ")]);
  }

  colon(): Expression {
    return this.#text.choice([literal(":"), literal(": ")]);
  }

  /** Anything that JSON can say. */
  value(): Expression {
    if (this.#value !== undefined) return this.#value;
    const name = this.#text.declare();
    this.#value = name;
    const kinds = [
      ...[this.object(), this.array(), this.string(), this.number()],
      ...["true", "false", "null"].map(literal),
    ];
    this.#text.define(name, this.#text.choice(kinds));
    return name;
  }

  object(): Expression {
    const member = sequence([this.string(), this.colon(), this.value()]);
    return this.#text.rule(sequence([literal("{"), this.#list(member), literal("}")]));
  }

  array(): Expression {
    return this.#text.rule(sequence([literal("["), this.#list(this.value()), literal("]")]));
  }

  string(): Expression {
    return this.stringOf(0, undefined);
  }

  /** Of so many characters, an escape being one. */
  stringOf(min: number, max: number | undefined): Expression {
    const characters = this.#text.repeat(this.#characters(), min, max);
    return this.#text.rule(sequence([literal('"'), characters, literal('"')]));
  }

  /** Of no more digits than a double holds. */
  integer(): Expression {
    const digits = this.#text.repeat(digit, 0, digitsMax - 1);
    const natural = this.#text.choice([literal("0"), sequence(["[1-9]", digits])]);
    return this.#text.choice([natural, sequence([literal("-"), natural])]);
  }

  number(): Expression {
    const fraction = this.#text.optional(
      sequence([literal("."), this.#text.repeat(digit, 1, digitsMax)]),
    );
    const sign = this.#text.choice([literal(""), literal("+"), literal("-")]);
    const power = sequence(["[eE]", sign, this.#text.repeat(digit, 1, 2)]);
    return this.#text.rule(sequence([this.integer(), fraction, this.#text.optional(power)]));
  }

  #list(item: Expression): Expression {
    const more = this.#text.repeat(sequence([this.comma(), item]), 0);
    return this.#text.optional(sequence([item, more]));
  }

  /** As itself or escaped; halves of surrogate pairs are not escaped, so each escape is one character. */
  #characters(): Expression[] {
    const hex = "[0-9a-fA-F]";
    const unicode = this.#text.choice([
      sequence(["[0-9a-ce-fA-CE-F]", hex, hex, hex]),
      sequence(["[dD]", "[0-7]", hex, hex]),
    ]);
    const escaped = this.#text.choice(['["\\u005c/bfnrt]', sequence([literal("u"), unicode])]);
    return [...this.#text.characters(unescaped), sequence([literal("\\"), escaped])];
  }
}

const digit: Expression = "[0-9]";
const unescaped = allBut([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
]);
