import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChatStream } from "./stream.ts";

const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20 };
const open = (wantsUsage = false) => new ChatStream({ wantsUsage, ...limits });
const bytes = (text: string) => new TextEncoder().encode(text);
const frame = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
const delta = (content: string, more: Record<string, unknown> = {}) =>
  frame({
    id: "c1",
    choices: [{ index: 0, delta: { content }, finish_reason: null }],
    usage: null,
    ...more,
  });
const finish = frame({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }], usage: null });
const usage = frame({
  choices: [],
  usage: { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 },
});
const done = "data: [DONE]\n\n";

/** Everything passed on, as text, and how the stream ended. */
function relay(stream: ChatStream, pieces: readonly Uint8Array[]) {
  const passed: Uint8Array[] = [];
  for (const piece of pieces) {
    const step = stream.push(piece);
    passed.push(...step.pass);
    if (step.end) return { text: Buffer.concat(passed).toString(), end: step.end };
  }
  const step = stream.close();
  return { text: Buffer.concat([...passed, ...step.pass]).toString(), end: step.end };
}

function cut(whole: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...places.map((place) => place % (whole.length + 1)), whole.length];
  ends.sort((a, b) => a - b);
  return ends.map((end, index) => whole.slice(index === 0 ? 0 : ends[index - 1], end));
}

const nasty = fc.oneof(
  fc.string({ unit: "binary" }),
  // Text that looks like the keys that are searched for.
  fc.constantFrom(
    '"usage":{"prompt_tokens":1}',
    '{"error": {"message": "no"}}',
    "data: [DONE]\n\n",
    '"finish_reason":"stop"',
    'a "quote" and a \\',
    "\\u0022",
    "🌍",
  ),
);

test("however a stream is cut, the same bytes pass, and usage and text are found", () => {
  fc.assert(
    fc.property(
      fc.array(nasty, { maxLength: 8 }),
      fc.array(fc.nat(), { maxLength: 12 }),
      fc.boolean(),
      (texts, places, wantsUsage) => {
        const deltas = texts.map((text) => delta(text)).join("");
        const stream = open(wantsUsage);
        const whole = bytes(deltas + finish + usage + done);
        const { text, end } = relay(stream, cut(whole, places));
        expect(text).toBe(deltas + finish + (wantsUsage ? usage : ""));
        expect(end).toEqual({});
        expect(stream.usage?.usage).toEqual({ input: 9, output: 4 });
        expect(stream.relayed.toString()).toBe(texts.join(""));
      },
    ),
    { numRuns: 500 },
  );
});

test("a chunk that is passed whole is passed without a copy", () => {
  const chunk = bytes(delta("a") + delta("b"));
  const { pass } = open().push(chunk);
  expect(pass).toHaveLength(1);
  expect(pass[0]?.buffer).toBe(chunk.buffer);
  expect(pass[0]).toHaveLength(chunk.length);
});

describe("usage", () => {
  test("beside content it is read and passes, whoever asked", () => {
    const chunk = delta("x", { usage: { prompt_tokens: 1, completion_tokens: 1 } });
    const stream = open();
    expect(relay(stream, [bytes(chunk + done)]).text).toBe(chunk);
    expect(stream.usage?.usage).toEqual({ input: 1, output: 1 });
  });

  test("told many times, the last one counts", () => {
    const chunks = [1, 2, 3].map((count) =>
      delta("x", {
        usage: { prompt_tokens: 5, completion_tokens: count, total_tokens: 5 + count },
      }),
    );
    const stream = open();
    relay(stream, [bytes(chunks.join("") + finish + done)]);
    expect(stream.usage?.usage.output).toBe(3);
  });

  test("that makes no sense stays unknown", () => {
    for (const reported of [{}, { prompt_tokens: -1, completion_tokens: 1 }, "many", []]) {
      const stream = open();
      relay(stream, [bytes(frame({ choices: [], usage: reported }) + done)]);
      expect(stream.usage).toBeUndefined();
    }
  });

  test("with cached and reasoning tokens becomes disjoint counts", () => {
    const stream = open();
    const reported = {
      prompt_tokens: 100,
      completion_tokens: 50,
      total_tokens: 150,
      prompt_tokens_details: { cached_tokens: 80 },
      completion_tokens_details: { reasoning_tokens: 30 },
    };
    relay(stream, [bytes(frame({ choices: [], usage: reported }) + done)]);
    expect(stream.usage?.usage).toEqual({ input: 20, cache_read: 80, output: 20, reasoning: 30 });
  });
});

describe("the end", () => {
  test("without [DONE] is good once the answer had finished", () => {
    expect(relay(open(), [bytes(delta("a") + finish)]).end).toEqual({});
  });

  test("without [DONE] and without a finish is a cut", () => {
    expect(relay(open(), [bytes(delta("a"))]).end?.error?.code).toBe("upstream_error");
  });

  test("without the last blank line is completed", () => {
    expect(relay(open(), [bytes(delta("a") + finish.trimEnd())]).text).toBe(delta("a") + finish);
    expect(relay(open(), [bytes(`${delta("a") + finish}data: [DONE]`)]).end).toEqual({});
  });

  test("by an error event, in any of its forms, ends with that error's words", () => {
    for (const event of [
      frame({ error: { message: "overloaded", type: "server_error" } }),
      frame({ error: "overloaded" }),
      `event: error\n${frame({ error: { message: "overloaded" } })}`,
    ]) {
      const { text, end } = relay(open(), [bytes(delta("a") + event)]);
      expect(text).toBe(delta("a"));
      expect(end?.error?.message).toContain("overloaded");
    }
  });

  test("by a frame without bound is an error, not memory", () => {
    const stream = new ChatStream({ wantsUsage: false, ...limits, frameBytesMax: 100 });
    expect(stream.push(bytes(`data: ${"x".repeat(200)}`)).end?.error?.code).toBe("upstream_error");
  });
});

test("text of tool calls and reasoning is counted too, and kept within its bound", () => {
  const stream = open();
  stream.push(
    bytes(
      frame({
        choices: [
          {
            index: 0,
            delta: {
              reasoning_content: "hm ",
              tool_calls: [
                { index: 0, function: { arguments: '{"a":' } },
                { index: 1, function: { arguments: '"b"}' } },
              ],
            },
          },
        ],
      }),
    ),
  );
  expect(stream.relayed.toString()).toContain('{"a":"b"}');
  expect(stream.relayed.toString()).toContain("hm ");
  const said = (delta: object) => {
    const stream = open();
    stream.push(bytes(frame({ choices: [{ index: 0, delta }] })));
    return stream.relayed.toString();
  };
  expect(said({ reasoning: "hm " })).toBe("hm ");
  // Some tell it by both names.
  expect(said({ reasoning: "hm ", reasoning_content: "hm " })).toBe("hm ");
  expect(said({ reasoning: "hm ", reasoning_content: null })).toBe("hm ");
  const bounded = new ChatStream({ wantsUsage: false, ...limits, relayedTextCharsMax: 10 });
  for (let i = 0; i < 10; i++) bounded.push(bytes(delta("12345678")));
  expect(bounded.relayed.toString().length).toBeLessThan(20);
});
