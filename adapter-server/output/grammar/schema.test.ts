/** Schemas that are small to write and large to follow are refused, and do not hold up whoever else is served. */
import { expect, test } from "vitest";
import { newGrammarText } from "./__fixtures__/grammar-text.ts";
import { schemaExpression } from "./schema-grammar.ts";

const write = (schema: unknown) => schemaExpression(schema, newGrammarText(), "schema");
const many = <T>(count: number, one: (index: number) => T) =>
  Array.from({ length: count }, (_, index) => one(index));

test("schemas that each name the next one several times", () => {
  const defs = many(15, (level) => [
    `level${level}`,
    level === 14
      ? { type: "string" }
      : { allOf: many(8, () => ({ $ref: `#/$defs/level${level + 1}` })) },
  ]);
  expect(() => write({ $ref: "#/$defs/level0", $defs: Object.fromEntries(defs) })).toThrow(
    /takes too much joining/,
  );
});

test("two of 'oneOf' with very many values each", () => {
  const options = ["a", "b"].map((kind) => ({ enum: many(100_000, (index) => `${kind}${index}`) }));
  expect(() => write({ oneOf: options })).toThrow(/takes too much joining/);
});

test("two of 'oneOf' with very many properties that are needed", () => {
  const names = many(100_000, (index) => `name${index}`);
  const properties = Object.fromEntries(names.map((name) => [name, { type: "string" }]));
  const option = { type: "object", properties, required: names };
  expect(() => write({ oneOf: [option, { ...option, title: "b" }] })).toThrow(
    /takes too much joining/,
  );
});

test("two lists of types that are none, said together", () => {
  const types = (kind: string) => ({ type: many(200_000, (index) => `${kind}${index}`) });
  expect(() => write({ allOf: [types("a"), types("b")] })).toThrow(/schema/);
});

test("an object of which very many properties are needed", () => {
  const names = many(150_000, (index) => `name${index}`);
  const properties = Object.fromEntries(names.map((name) => [name, true]));
  expect(() => write({ properties, required: names.reverse() })).toThrow(/characters|too large/);
});

test("references into very many definitions are followed", () => {
  const defs = Object.fromEntries(many(200_000, (index) => [`d${index}`, { type: "boolean" }]));
  const properties = Object.fromEntries(
    many(900, (index) => [`p${index}`, { $ref: `#/$defs/d${199_999 - index}` }]),
  );
  expect(write({ properties, $defs: defs })).toMatch(/^r\d+$/);
});

test("some hundred named constants are no others than they were", () => {
  const oneOf = many(500, (index) => ({ const: `value ${index}`, title: `Value ${index}` }));
  expect(write({ oneOf })).toMatch(/^r\d+$/);
  expect(() => write({ oneOf: [...oneOf, { const: "value 7" }] })).toThrow(/may hold at once/);
});
