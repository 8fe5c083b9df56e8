/** Whatever may change an answer changes its key; what only says whom it is for does not. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { guardrails } from "../../sdk/protocol/guardrails.ts";
import { testModel } from "../../test/support/policy.ts";
import { anthropicMessages } from "../dialects/anthropic-messages/index.ts";
import type { Call } from "../dialects/dialect.ts";
import { openAiChat } from "../dialects/openai-chat/index.ts";
import { toChatCall } from "../dialects/openai-chat/request.ts";
import type { Target } from "../routing/resolve.ts";
import { cacheKey, isRepeatable } from "./cache-key.ts";

type Asked = { body: Record<string, unknown>; target: Target; call?: Partial<Call> };

const message = { role: "user", content: "Hi" };
const target = {
  name: "m",
  model: testModel("m"),
  adapter: { digest: "a".repeat(64) },
} as unknown as Target;
const asked: Asked = {
  target,
  body: { model: "m", messages: [message], temperature: 0, max_tokens: 5, stop: ["x"], seed: 1 },
};

function keyOf(
  { body, target, call = {} }: Asked,
  guards?: Parameters<typeof cacheKey>[2],
): string {
  return cacheKey({ ...toChatCall(asked.body, 0), body, ...call } as Call, target, guards);
}

const different: [what: string, change: (asked: Asked) => Asked][] = [
  ["the adapter's digest", (it) => withTarget(it, { adapter: { digest: "b".repeat(64) } })],
  ["no adapter", (it) => withTarget(it, { adapter: undefined })],
  ["a mix", (it) => withTarget(it, { mix: [{ name: "a", weight: 0.5 }] })],
  [
    "the upstream's model",
    (it) => withTarget(it, { model: testModel("m", { upstreamModel: "n" }) }),
  ],
  ["the upstream", (it) => withTarget(it, { model: testModel("m", { upstream: "elsewhere" }) })],
  ["the dialect", (it) => ({ ...it, call: { dialect: anthropicMessages } })],
  [
    "the stream's framing",
    (it) => ({ ...it, call: { dialect: { ...openAiChat, streamType: "x/y" } } }),
  ],
  ["whether it streams", (it) => ({ ...it, call: { stream: true } })],
  ["the usage chunk", (it) => ({ ...it, call: { wantsUsage: true } })],
  ["a header that travels on", (it) => ({ ...it, call: { headers: { "openai-beta": "x" } } })],
  [
    "the order of messages",
    (it) => withBody(it, { messages: [{ role: "system", content: "A" }, message].reverse() }),
  ],
];

test.each(different)("another answer is asked for by %s", (_, change) => {
  expect(keyOf(change(asked))).not.toBe(keyOf(asked));
});

test("guardrails that differ make another answer", () => {
  const guards = (word: string) => guardrails.parse([{ name: "a", type: "deny", words: [word] }]);
  expect(new Set([keyOf(asked), keyOf(asked, guards("x")), keyOf(asked, guards("y"))]).size).toBe(
    3,
  );
});

const name = fc.stringMatching(/^[a-z_]{1,12}$/);
const value = fc.jsonValue({ maxDepth: 2 });
const ignored = [
  "user",
  "safety_identifier",
  "metadata",
  "prompt_cache_key",
  "prompt_cache_retention",
];

test("any field that is added, changed or left out asks for another answer, known or not", () => {
  fc.assert(
    fc.property(name, value, value, (field, one, other) => {
      fc.pre(!ignored.includes(field) && JSON.stringify(one) !== JSON.stringify(other));
      const without = keyOf(asked);
      fc.pre(!(field in asked.body));
      expect(keyOf(withBody(asked, { [field]: one }))).not.toBe(without);
      expect(keyOf(withBody(asked, { [field]: one }))).not.toBe(
        keyOf(withBody(asked, { [field]: other })),
      );
    }),
    { numRuns: 300 },
  );
  for (const field of Object.keys(asked.body)) {
    const { [field]: _, ...rest } = asked.body;
    expect(keyOf({ ...asked, body: rest }), field).not.toBe(keyOf(asked));
  }
});

test("whom it is for, and the order of fields, ask for the same answer", () => {
  fc.assert(
    fc.property(fc.constantFrom(...ignored), fc.string(), (field, text) => {
      expect(keyOf(withBody(asked, { [field]: text }))).toBe(keyOf(asked));
    }),
  );
  const reversed = Object.fromEntries(Object.entries(asked.body).reverse());
  expect(keyOf({ ...asked, body: reversed })).toBe(keyOf(asked));
});

test.each([
  ["several choices of a temperature", { n: 3, temperature: 0.7 }, false],
  ["several choices without one", { n: 3, temperature: undefined }, false],
  ["several choices of temperature 0", { n: 3 }, true],
  ["tools", { tools: [{ type: "function", function: { name: "act" } }] }, false],
  ["no tools", { tools: [] }, true],
  ["what is kept", { store: true }, false],
])(
  "what chance has a part in, or what acts, is not given again unasked: %s",
  (_, more, expected) => {
    const call = toChatCall({ ...asked.body, ...more }, 0) as Call;
    expect(isRepeatable(call, { sampled: false })).toBe(expected);
  },
);

function withTarget(it: Asked, more: object): Asked {
  return { ...it, target: { ...it.target, ...more } as Target };
}

function withBody(it: Asked, more: Record<string, unknown>): Asked {
  return { ...it, body: { ...it.body, ...more } };
}
