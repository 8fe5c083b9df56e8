import fc from "fast-check";
import { expect, test } from "vitest";
import { parseStrictJson, StrictJsonError } from "./strict-json.ts";

const encode = (text: string) => new TextEncoder().encode(text);

test("ordinary JSON gives what JSON.parse gives", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value);
      expect(parseStrictJson(encode(text), 100)).toEqual(JSON.parse(text));
    }),
  );
});

test.each([
  ['{"a":1,"a":2}', "twice"],
  ['{"a":1,"\\u0061":2}', "twice"],
  ['{"x":{"a":1},"y":[{"b":1,"b":1}]}', "twice"],
  ["[[[1]]]", "deeper than 2"],
  ["\ufeff{}", "not JSON"],
  ['{"a":NaN}', "not JSON"],
  ["", "not JSON"],
])("%s is refused", (text, reason) => {
  expect(() => parseStrictJson(encode(text), text.includes("[[") ? 2 : 9)).toThrow(reason);
});

test("the same key in two objects, and a value equal to a key, are no duplicates", () => {
  const text = '{"a":{"b":"a","c":["a","a"]},"b":{"b":"}"},"c\\"":"a"}';
  expect(parseStrictJson(encode(text), 9)).toEqual(JSON.parse(text));
});

test("bytes that are not UTF-8 are refused", () => {
  expect(() => parseStrictJson(Uint8Array.of(0x22, 0xff, 0x22), 9)).toThrow(StrictJsonError);
});
