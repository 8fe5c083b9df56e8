import { expect, test } from "vitest";
import { guardrails } from "../sdk/protocol/guardrails.ts";
import { refuseBadPatterns } from "./patterns.ts";

const withPatterns = (...patterns: string[]) =>
  guardrails.parse([
    { name: "a", type: "size", charsMax: 1 },
    { name: "b", type: "regex", patterns },
  ]);

test("patterns that run in bounded time are taken", () => {
  refuseBadPatterns(withPatterns("(?i)project\\s+titan", "(a+)+$"));
  refuseBadPatterns(undefined);
});

test.each(["(?=a)b", "(a)\\1", "(", "((a{100}){100}){100}", "[a-z]{300}"])(
  "%s is refused by its place",
  (pattern) => {
    const refuse = () => refuseBadPatterns(withPatterns("fine", pattern));
    expect(refuse).toThrow(
      expect.objectContaining({ code: "invalid_value", param: "guardrails[1].patterns[1]" }),
    );
  },
);
