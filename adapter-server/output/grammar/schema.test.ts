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

test("very many values of 'oneOf' that are large and nearly alike", () => {
  const oneOf = many(1_000, (index) => ({ const: [...many(500, () => 0), index] }));
  expect(() => write({ oneOf })).toThrow(/takes too much joining/);
});

test("two large values that are said together again and again", () => {
  const $defs = { a: { const: many(50_000, () => 0) }, b: { const: many(50_000, () => 0) } };
  const allOf = many(5_000, (index) => ({ $ref: `#/$defs/${index % 2 === 0 ? "a" : "b"}` }));
  expect(() => write({ allOf, $defs })).toThrow(/takes too much joining/);
});

test("very many parts that each add a property", () => {
  const allOf = many(20_000, (index) => ({ properties: { [`p${index}`]: true } }));
  expect(() => write({ allOf })).toThrow(/takes too much joining/);
});

test("very many parts that each need a property", () => {
  const allOf = many(20_000, (index) => ({ required: [`p${index}`] }));
  expect(() => write({ allOf })).toThrow(/takes too much joining/);
});

test("a long path that very many schemas follow", () => {
  const name = "k".repeat(100_000);
  const $defs = { x: { $ref: `#/$defs/${name}` }, [name]: { type: "string" } };
  const anyOf = many(500, () => ({ $ref: "#/$defs/x", minLength: 1 }));
  expect(() => write({ anyOf, $defs })).toThrow(/more than 1000 characters/);
});

test("schemas of one request have what they may take together", () => {
  const text = newGrammarText();
  const kinds = many(150, (kind) => ({
    properties: { kind: { const: kind } },
    required: ["kind"],
  }));
  const tools = many(128, (index) => ({ title: `tool ${index}`, oneOf: structuredClone(kinds) }));
  expect(() => {
    for (const [index, tool] of tools.entries()) schemaExpression(tool, text, `tools[${index}]`);
  }).toThrow(/takes too much joining/);
});

const kind = (value: number) => ({ properties: { k: { const: value } }, required: ["k"] });

test.each([
  ["an object, said by its properties, and a string", [kind(1), { type: "string" }]],
  ["a number, said by its bounds, and a string", [{ minimum: 3 }, { type: "string" }]],
  [
    "alternatives beside a keyword of another type",
    [{ minLength: 1, anyOf: [{ type: "integer" }, { type: "boolean" }] }, { type: "integer" }],
  ],
  [
    "properties that no string has",
    [
      { type: "string", ...kind(1) },
      { type: "string", ...kind(2) },
    ],
  ],
])("%s may hold at once", (_, oneOf) => {
  expect(() => write({ oneOf })).toThrow(/may hold at once/);
});

test("objects that a property tells apart, and types that are named, do not", () => {
  expect(write({ oneOf: [kind(1), kind(2)] })).toMatch(/^r\d+$/);
  expect(write({ oneOf: [{ type: "object", ...kind(1) }, { type: "string" }] })).toMatch(/^r\d+$/);
});

test.each(["constructor", "toString", "valueOf", "__proto__"])(
  "the keyword '%s' is as unknown as any other",
  (keyword) => {
    const schema = JSON.parse(`{"type": "string", "${keyword}": 1}`);
    expect(() => write(schema)).toThrow(/is not supported/);
    const joined = JSON.parse(`{"allOf": [{"type": "string"}, {"${keyword}": {"type": "null"}}]}`);
    expect(() => write(joined)).toThrow(/is not supported/);
  },
);
