import { expect, test } from "vitest";
import { endUserOf } from "./end-user.ts";

const ask = (body: Record<string, unknown>, header?: string) =>
  endUserOf(
    new Request("http://gateway", {
      headers: header === undefined ? {} : { "x-switchyard-user": header },
    }),
    { body },
  );

test.each([
  ["the header goes before the body", { user: "body" }, "head", "head"],
  [
    "OpenAI's newer field goes before its older one",
    { user: "old", safety_identifier: "new" },
    undefined,
    "new",
  ],
  ["Anthropic's metadata", { metadata: { user_id: "ann" } }, undefined, "ann"],
  ["an empty name is none", { user: "" }, undefined, undefined],
  ["what is no text is none", { user: 5, metadata: [] }, undefined, undefined],
])("%s", (_what, body, header, expected) => {
  expect(ask(body, header)).toBe(expected);
});

test("of a name that is too long its digest is kept, and two such names stay two", () => {
  const long = "u".repeat(300);
  expect(ask({ user: long })).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect(ask({ user: `${long}2` })).not.toBe(ask({ user: long }));
});

test("a header that is no name is refused", () => {
  expect(() => ask({}, "u".repeat(257))).toThrow(/x-switchyard-user/);
  expect(() => ask({}, " ")).toThrow(/x-switchyard-user/);
});
