/** A grammar made of a regular expression takes what JavaScript's matches, and refuses by name what it cannot. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { accepts } from "./__fixtures__/accepts.ts";
import { newGrammarText } from "./__fixtures__/grammar-text.ts";
import type { CodePoints } from "./code-points.ts";
import { literal, sequence } from "./grammar-text.ts";
import { jsonCharacters, regexExpression } from "./regex-grammar.ts";

function whole(source: string) {
  const text = newGrammarText();
  const characters = (set: CodePoints) => text.characters(set);
  return text.grammar(
    regexExpression(source, { text, param: "regex", matches: "all", characters }),
  );
}

function inJson(source: string) {
  const text = newGrammarText();
  const characters = (set: CodePoints) => jsonCharacters(text, set);
  const inner = regexExpression(source, { text, param: "pattern", matches: "part", characters });
  return text.grammar(sequence([literal('"'), inner, literal('"')]));
}

const alphabet = [
  "a",
  "b",
  "-",
  "]",
  "\\",
  '"',
  "\n",
  "é",
  "€",
  "\u2028",
  "😀",
  "\u0001",
  "7",
  " ",
];
const texts = fc.array(
  fc.array(fc.constantFrom(...alphabet), { maxLength: 5 }).map((all) => all.join("")),
  {
    minLength: 1,
    maxLength: 12,
  },
);
const atoms = fc.constantFrom(
  ...[
    "a",
    "b",
    ".",
    "\\d",
    "\\w",
    "\\s",
    "\\S",
    "\\W",
    "[ab]",
    "[^ab]",
    "[^é-€]",
    "[\\]-]",
    "\\\\",
    '"',
    "é",
  ],
  ...[
    "[a-z0-9]",
    "[😀-😂]",
    "\\u20ac",
    "\\u{1f600}",
    "\\x01",
    "\\n",
    "[\\u0080-\\uffff]",
    "[^\\x00-\\x1f]",
  ],
);
const regexes = fc.letrec<{ regex: string; term: string }>((tie) => ({
  regex: fc.array(tie("term"), { minLength: 1, maxLength: 3 }).map((terms) => terms.join("")),
  term: fc.oneof(
    { maxDepth: 2 },
    atoms,
    fc
      .tuple(atoms, fc.constantFrom("*", "+", "?", "{2}", "{1,3}", "{0,}", "+?"))
      .map(([atom, times]) => atom + times),
    fc.tuple(tie("regex"), tie("regex")).map(([a, b]) => `(?:${a}|${b})`),
    fc.tuple(tie("regex"), fc.constantFrom("", "*", "{0,2}")).map(([a, times]) => `(${a})${times}`),
  ),
})).regex;

test("the whole of an output matches as JavaScript has it", async () => {
  await fc.assert(
    fc.asyncProperty(regexes, texts, async (source, all) => {
      const regex = new RegExp(`^(?:${source})$`, "u");
      expect(await accepts(whole(source), all)).toEqual(all.map((text) => regex.test(text)));
    }),
    { numRuns: 60 },
  );
});

test("a JSON string is taken when a part of its text matches, between the anchors there are", async () => {
  const anchored = fc
    .tuple(fc.constantFrom("", "^"), regexes, fc.constantFrom("", "$"))
    .map(([start, source, end]) => `${start}(?:${source})${end}`);
  await fc.assert(
    fc.asyncProperty(anchored, texts, async (source, all) => {
      const regex = new RegExp(source, "u");
      const json = all.map((text) => JSON.stringify(text));
      expect(await accepts(inJson(source), json)).toEqual(all.map((text) => regex.test(text)));
    }),
    { numRuns: 40 },
  );
});

test.each([
  ["a(?=b)", "unsupported_parameter"],
  ["(?<!a)b", "unsupported_parameter"],
  ["(a)\\1", "unsupported_parameter"],
  ["\\bword\\b", "unsupported_parameter"],
  ["\\p{L}", "unsupported_parameter"],
  ["a^b", "unsupported_parameter"],
  ["(^a)b", "unsupported_parameter"],
  ["a++", "unsupported_parameter"],
  ["(a", "invalid_value"],
  ["a)", "invalid_value"],
  ["[b-a]", "invalid_value"],
  ["*a", "invalid_value"],
  ["a{3,2}", "invalid_value"],
  ["[a", "invalid_value"],
  ["\\", "invalid_value"],
  ["[^\\s\\S]", "invalid_value"],
  ["((a{60}){60}){60}", "invalid_value"],
  ["a".repeat(5000), "invalid_value"],
  ["(".repeat(1000), "invalid_value"],
])("%s is refused by name", (source, code) => {
  expect(() => whole(source)).toThrow(expect.objectContaining({ code, param: "regex" }));
});

test("any text at all either makes a grammar or is refused", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (source) => {
      try {
        whole(source);
      } catch (error) {
        expect(error).toHaveProperty("code");
      }
    }),
  );
});
