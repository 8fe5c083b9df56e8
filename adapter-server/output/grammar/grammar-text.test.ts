/** What takes no room in a grammar, because it is there already, takes no time without bound either. */
import { expect, test } from "vitest";
import { newGrammarText } from "./__fixtures__/grammar-text.ts";
import { schemaExpression } from "./schema-grammar.ts";

const write = (schema: unknown) => schemaExpression(schema, newGrammarText(), "schema");
const properties = (count: number, one: (index: number) => unknown) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`p${index}`, one(index)]));

test("a text of bounded length is written once, however many properties have one", () => {
  const texts = properties(1900, () => ({ type: "string", maxLength: 1000 }));
  expect(write({ properties: texts })).toMatch(/^r\d+$/);
});

test("very many repetitions that share their ends are refused", () => {
  const texts = properties(1900, (index) => ({ pattern: `^[a-z]{${2000 + index}}$` }));
  expect(() => write({ properties: texts })).toThrow(/simplify it/);
});
