/** Grammars that clients write are followed as they are written, or refused with the line. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { accepts } from "./__fixtures__/accepts.ts";
import { newGrammarText } from "./__fixtures__/grammar-text.ts";
import { ebnfExpression } from "./ebnf.ts";

function grammarOf(source: string) {
  const text = newGrammarText();
  return text.grammar(ebnfExpression(source, text, "grammar"));
}

test.each<[source: string, taken: string[], not: string[]]>([
  ['root ::= "a" | "b"', ["a", "b"], ["ab", ""]],
  ["root ::= item+\nitem ::= [a-c0-9_]", ["a0_"], ["", "d"]],
  ['root ::= "x" ("," "x")* ";"?', ["x", "x,x;"], ["x,", ","]],
  ['root ::= [a-z]{2,3} [0-9]{2} "!"{1,}', ["ab12!", "abc00!!"], ["a12!", "ab1!"]],
  [
    '# a comment\nroot ::= expr # more\nexpr ::= term | expr "+" term\nterm ::= [0-9] | "(" expr ")"',
    ["1", "1+(2+3)"],
    ["1+", "(1"],
  ],
  ['root ::= [^"\\\\]+', ["é 中", "a"], ['"', "\\"]],
  ["root ::= [à-ü]", ["é"], ["e", "ÿ"]],
  ['root ::= "\\u00e9\\n\\"\\\\" [\\-\\]]', ['é\n"\\-', 'é\n"\\]'], ["é"]],
  ['root ::= "" | "a"\n  | "b"', ["", "a", "b"], ["ab"]],
  // Lengths that xgrammar 0.1.27 takes wrongly when it reads this grammar itself.
  [
    `root ::= ${[4, 5, 6, 7, 8, 9, 10].map((n) => `[1-9] [0-9]{${n}}`).join(" | ")}`,
    ["12345"],
    ["999", "1"],
  ],
])("%s", async (source, taken, not) => {
  expect(await accepts(grammarOf(source), [...taken, ...not])).toEqual([
    ...taken.map(() => true),
    ...not.map(() => false),
  ]);
});

test.each([
  ["start ::= [a]", /no rule 'root'/],
  ['root ::= "a', /not understood, on line 1|which is not understood/],
  ['root ::= a\nb ::= "x"', /'a', which is not defined, on line 1/],
  ['root ::= "a"\nroot ::= "b"', /second rule 'root', on line 2/],
  ["root ::= (", /not closed/],
  ["root ::= ]", /not understood/],
  ['root ::= "\\q"', /escape/],
  ["root ::= [z-a]", /wrong order/],
  ['root ::= "a"{5,2}', /repetition/],
  ['root ::= "a"{1,100000}', /repetition/],
  ['?start: "lark"', /not understood/],
  [`root ::= ${"(".repeat(200)}"a"${")".repeat(200)}`, /too many groups/],
  [`root ::= "${"a".repeat(70_000)}"`, /at most/],
])("%s is refused", (source, message) => {
  expect(() => grammarOf(source)).toThrow(
    expect.objectContaining({
      code: "invalid_value",
      param: "grammar",
      message: expect.stringMatching(message),
    }),
  );
});

test("any text at all either makes a grammar or is refused", () => {
  const pieces = fc.constantFrom(
    "root",
    " ::= ",
    '"a"',
    "[a-z]",
    "(",
    ")",
    "|",
    "*",
    "{1,2}",
    "\n",
    "b",
    "\\",
    '"',
    "é",
  );
  fc.assert(
    fc.property(
      fc.array(pieces).map((all) => all.join("")),
      (source) => {
        try {
          grammarOf(source);
        } catch (error) {
          expect(error).toHaveProperty("code", "invalid_value");
        }
      },
    ),
  );
});
