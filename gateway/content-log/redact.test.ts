import fc from "fast-check";
import { expect, test } from "vitest";
import { piiKinds } from "../../sdk/protocol/guardrails.ts";
import { contentDetector, redact } from "./redact.ts";

const detector = contentDetector(piiKinds);
const all = (value: unknown, charsMax = 100_000) => redact(value, { detector, charsMax });
const key = `sk-ant-${"a1B2".repeat(8)}`;

test("what identifies people and what opens doors goes, wherever in the JSON it stands", async () => {
  const { value, found, truncated } = await all({
    messages: [
      { role: "user", content: `I am ada@example.com, my key is ${key}.` },
      { role: "tool", tool_call_id: "ada@example.com", content: [{ type: "text", text: key }] },
      { tool_calls: [{ function: { name: "mail", arguments: '{"to":"ada\\u0040example.com"}' } }] },
    ],
    metadata: { "bob@example.com": "x", card: 4111111111111111 },
  });
  expect(value).toEqual({
    messages: [
      { role: "user", content: "I am [EMAIL], my key is [ANTHROPIC_KEY]." },
      {
        role: "tool",
        tool_call_id: "[EMAIL]",
        content: [{ type: "text", text: "[ANTHROPIC_KEY]" }],
      },
      { tool_calls: [{ function: { name: "mail", arguments: '{"to":"[EMAIL]"}' } }] },
    ],
    metadata: { "[EMAIL]": "x", card: "[CARD]" },
  });
  expect(found).toEqual({ EMAIL: 4, ANTHROPIC_KEY: 2, CARD: 1 });
  expect(truncated).toBe(false);
});

test.each([
  ['{"to":"ada\\u0040example.com"}', '{"to":"[EMAIL]"}'],
  ["ad\u200ba@exam\u00adple.com", "[EMAIL]"],
  ["аda@example.com", "[EMAIL]"],
  ["4111\u00a01111\u202f1111\u20071111", "[CARD]"],
  [`sk\u200b${key.slice(2)}`, "[ANTHROPIC_KEY]"],
])("what is written otherwise than it reads goes too: %j", async (text, kept) => {
  expect((await all(text)).value).toBe(kept);
});

test("a kind that the project wants kept stays, and credentials never do", async () => {
  const { value } = await redact(`ada@example.com ${key}`, {
    detector: contentDetector([]),
    charsMax: 1000,
  });
  expect(value).toBe("ada@example.com [ANTHROPIC_KEY]");
});

test("wherever a long prompt is cut, nothing of a find is left at its end", async () => {
  const text = `Call +49 30 123456 or write to ada@example.com, card 4111 1111 1111 1111, ${key}`;
  for (let charsMax = 1; charsMax <= text.length + 2; charsMax++) {
    const { value, truncated } = await all(text, charsMax);
    expect(value, String(charsMax)).not.toMatch(/ada|4111|sk-ant|\+49 ?30/);
    // A value takes a little room beside its characters.
    expect(truncated).toBe(charsMax < text.length + 2);
  }
});

test("pictures and files are told by their length, and lists end where there is no more room", async () => {
  const picture = "A".repeat(4000);
  expect((await all({ data: picture, url: `data:image/png;base64,${picture}` })).value).toEqual({
    data: "[4000 characters of base64]",
    url: "[4022 characters of base64]",
  });
  const { value, truncated } = await all(Array(1000).fill("word"), 100);
  expect((value as string[]).length).toBeLessThan(20);
  expect(truncated).toBe(true);
});

test("what holds nothing that is to go is copied as it is", async () => {
  const plain = fc
    .jsonValue()
    .map((value): unknown => JSON.parse(JSON.stringify(value)))
    .filter((value) => !/[@\d]{2}|[A-Z]{2}|_/.test(JSON.stringify(value)));
  await fc.assert(
    fc.asyncProperty(plain, async (value) => {
      expect((await all(value)).value).toEqual(value);
    }),
    { numRuns: 50 },
  );
});
