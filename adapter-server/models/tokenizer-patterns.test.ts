import { expect, test } from "vitest";
import { checkPatterns, mayRunAway } from "./tokenizer-patterns.ts";

test.each([
  // GPT-2, Llama 3, Qwen 2, o200k, DeepSeek V3, Falcon, StarCoder.
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "[0-9][0-9][0-9]",
  "\\d(?=(?:\\d{3})+$)",
  "(?<=\\s)\\S|^ +",
  "",
])("a known tokenizer's pattern is run: %s", (pattern) => {
  expect(mayRunAway(pattern)).toBe(false);
});

test.each([
  "(a+)+$",
  "(?:a*)*b",
  "(a|a)*b",
  "((ab?)c)+d",
  "(?:\\s{1,4})+x",
  "(?<word>\\w+\\s?)*!",
  "\\s*\\s*\\s*\\s*x",
  "((?:a|b)c){2,}",
  "(\\p{L}+)*",
  `${"(?:a|a)".repeat(30)}b`,
  `${"a?".repeat(30)}b`,
  `(?:${"(?:a|a)?".repeat(15)}|b)c`,
  "x".repeat(5_000),
])("a pattern that may run away is not: %s", (pattern) => {
  expect(mayRunAway(pattern)).toBe(true);
});

test("patterns are found wherever steps may hold them, and shown", () => {
  const split = { type: "Split", pattern: { Regex: "(a+)+" }, behavior: "Isolated" };
  const steps = [{ type: "Sequence", pretokenizers: [{ type: "Digits" }, split] }];
  expect(() => checkPatterns(steps)).toThrow(
    expect.objectContaining({
      code: "unsupported_model",
      message: expect.stringContaining("(a+)+"),
    }),
  );
  checkPatterns([{ ...split, pattern: { String: "(a+)+" } }, null, "(a+)+"]);
  let deep: unknown = {};
  for (let i = 0; i < 1_000; i++) deep = { deep };
  expect(() => checkPatterns(deep)).toThrow(/too deeply/);
});
