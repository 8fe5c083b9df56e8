import fc from "fast-check";
import { expect, test } from "vitest";
import { HubError } from "./errors.ts";
import { formatModelName, parseModelName } from "./model-name.ts";

const digest = "0123456789abcdef".repeat(4);

test("names are read into base, adapter and reference", () => {
  const cases = {
    "gpt-6": { base: "gpt-6" },
    "org/base-1.5": { base: "org/base-1.5" },
    "org/base:tone": { base: "org/base", adapter: { name: "tone" } },
    "base:tone@3": { base: "base", adapter: { name: "tone", ref: "3" } },
    "base:tone@champion": { base: "base", adapter: { name: "tone", ref: "champion" } },
    [`base:tone@sha256-${digest}`]: {
      base: "base",
      adapter: { name: "tone", ref: `sha256-${digest}` },
    },
  };
  for (const [text, name] of Object.entries(cases)) expect(parseModelName(text)).toEqual(name);
});

test("what is no name is refused with the field and a way to write one", () => {
  const wrong = [
    "",
    ":tone",
    "base:",
    "base@1",
    "base:tone@",
    "base:tone@0",
    "base:tone@01",
    "base:tone@Champion",
    "base:tone@sha256-12",
    "base:Tone",
    "base:to/ne",
    "a:b:c",
    "a:b@c@d",
    "../etc/passwd",
    "org//base",
    "org/",
    "base ",
    "b\u0000ase",
    `${"a".repeat(129)}`,
    `base:${"a".repeat(64)}`,
  ];
  for (const text of wrong) {
    try {
      parseModelName(text);
      expect.unreachable(text);
    } catch (error) {
      expect(error).toBeInstanceOf(HubError);
      expect(error).toMatchObject({ code: "invalid_value", param: "model" });
    }
  }
});

test("writing a name and reading it gives the same name", () => {
  const word = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,10}$/);
  const ref = fc.oneof(
    fc.integer({ min: 1, max: 999_999_999 }).map(String),
    fc.stringMatching(/^[a-z][a-z0-9_-]{0,10}$/),
    fc.constant(`sha256-${digest}`),
  );
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 3 }),
      fc.option(fc.tuple(word, fc.option(ref, { nil: undefined })), { nil: undefined }),
      (parts, adapter) => {
        const name = {
          base: parts.join("/"),
          ...(adapter && {
            adapter: { name: adapter[0], ...(adapter[1] !== undefined && { ref: adapter[1] }) },
          }),
        };
        expect(parseModelName(formatModelName(name))).toEqual(name);
      },
    ),
  );
});
