/** Requests that are written for Bedrock, and answers that are read from it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AnswerEvent, gatherAnswer } from "../../canonical/answer.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { converseFormat as format } from "./format.ts";
import { writeFrame } from "./frames.ts";

const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20, wantsUsage: true };
const write = (more: Partial<CanonicalRequest>) =>
  format.writeBody({
    model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
    instructions: [],
    turns: [{ role: "user", parts: [{ type: "text", text: "Hi" }] }],
    tools: [],
    choices: 1,
    stop: [],
    stream: false,
    rest: {},
    ...more,
  });

describe("a request", () => {
  test("with everything finds a place for all that Converse has", () => {
    const { body, dropped } = write({
      instructions: [{ type: "text", text: "Be brief.", cache: {} }],
      turns: [
        {
          role: "user",
          parts: [
            { type: "text", text: " " },
            { type: "image", source: { type: "base64", mediaType: "image/jpg", data: "AAAA" } },
            {
              type: "file",
              name: "q1_report.pdf",
              source: { type: "base64", mediaType: "application/pdf", data: "BBBB" },
            },
          ],
        },
        {
          role: "assistant",
          parts: [
            { type: "reasoning", text: "hm", signature: "bedrock:c2ln" },
            { type: "reasoning", text: "hm", signature: "google:c2ln" },
            { type: "tool_call", id: "a|b", name: "look", arguments: '{"x":1}' },
          ],
        },
        {
          role: "tool",
          result: { callId: "a|b", parts: [{ type: "text", text: "no" }], isError: true },
        },
        { role: "system", parts: [{ type: "text", text: "Now in French." }] },
      ],
      tools: [{ type: "function", name: "look", description: "d", cache: { ttl: "1h" } }],
      toolChoice: { type: "auto" },
      output: { type: "json_schema", name: "s", schema: { type: "object", properties: {} } },
      outputTokensMax: 9000,
      temperature: 1.5,
      stop: ["END", " "],
      reasoning: { effort: "low" },
      metadata: { a: "b" },
      seed: 7,
      rest: { service_tier: "priority", prediction: {} },
    });
    const toolUseId = expect.stringMatching(/^call_[0-9a-f]{32}$/);
    expect(body).toEqual({
      system: [{ text: "Be brief." }, { cachePoint: { type: "default" } }],
      messages: [
        {
          role: "user",
          content: [
            { text: "(see the document)" },
            { image: { format: "jpeg", source: { bytes: "AAAA" } } },
            { document: { format: "pdf", name: "q1 report pdf 1", source: { bytes: "BBBB" } } },
          ],
        },
        {
          role: "assistant",
          content: [
            { reasoningContent: { reasoningText: { text: "hm", signature: "c2ln" } } },
            { toolUse: { toolUseId, name: "look", input: { x: 1 } } },
          ],
        },
        {
          role: "user",
          content: [
            { toolResult: { toolUseId, content: [{ text: "no" }], status: "error" } },
            { text: "Now in French." },
          ],
        },
      ],
      inferenceConfig: { maxTokens: 9000, stopSequences: ["END"] },
      toolConfig: {
        tools: [
          {
            toolSpec: {
              name: "look",
              description: "d",
              inputSchema: { json: { type: "object", properties: {} } },
            },
          },
          { cachePoint: { type: "default", ttl: "1h" } },
        ],
        toolChoice: { auto: {} },
      },
      additionalModelRequestFields: { thinking: { type: "enabled", budget_tokens: 2048 } },
      outputConfig: {
        textFormat: {
          type: "json_schema",
          structure: {
            jsonSchema: {
              name: "s",
              schema: '{"type":"object","properties":{},"additionalProperties":false}',
            },
          },
        },
      },
      requestMetadata: { a: "b" },
      serviceTier: { type: "priority" },
    });
    expect(dropped.sort()).toEqual([
      "messages.reasoning",
      "prediction",
      "seed",
      "stop",
      "temperature",
    ]);
  });

  test("is refused by name for what would be missed", () => {
    const refused = (more: Partial<CanonicalRequest>, param: string) =>
      expect(() => write(more)).toThrow(expect.objectContaining({ param }));
    refused({ choices: 2 }, "n");
    refused({ topLogprobs: 1 }, "logprobs");
    refused({ tools: [{ type: "native", dialect: "x", tool: { type: "web" } }] }, "tools");
    const image = { type: "image", source: { type: "url", url: "https://h" } } as const;
    refused({ turns: [{ role: "user", parts: [image] }] }, "messages");
  });
});

const frames = Buffer.concat(
  (
    [
      ["messageStart", { role: "assistant" }],
      ["contentBlockDelta", { contentBlockIndex: 0, delta: { reasoningContent: { text: "hm" } } }],
      [
        "contentBlockDelta",
        { contentBlockIndex: 0, delta: { reasoningContent: { signature: "s" } } },
      ],
      ["contentBlockDelta", { contentBlockIndex: 1, delta: { text: "Hé" } }],
      ["contentBlockDelta", { contentBlockIndex: 1, delta: { text: "llo 🦜" } }],
      ["contentBlockDelta", { contentBlockIndex: 1, delta: { citation: { title: "T" } } }],
      [
        "contentBlockStart",
        { contentBlockIndex: 2, start: { toolUse: { toolUseId: "1", name: "f" } } },
      ],
      ["contentBlockDelta", { contentBlockIndex: 2, delta: { toolUse: { input: '{"x"' } } }],
      ["contentBlockDelta", { contentBlockIndex: 2, delta: { toolUse: { input: ":1}" } } }],
      ["contentBlockStop", { contentBlockIndex: 2 }],
      ["messageStop", { stopReason: "tool_use" }],
      ["metadata", { usage: { inputTokens: 3, outputTokens: 4, cacheReadInputTokens: 2 } }],
    ] as const
  ).map(([name, payload]) => writeFrame("event", name, payload)),
);

function inPieces<T>(bytes: Buffer, cuts: readonly number[], take: (piece: Buffer) => T): T[] {
  const places = [...cuts].sort((a, b) => a - b);
  return [...places, bytes.length].map((end, at) => take(bytes.subarray(places[at - 1] ?? 0, end)));
}
const cutPlaces = fc.uniqueArray(fc.nat(frames.length), { maxLength: 8 });

function read(bytes: Buffer, cuts: readonly number[] = []): AnswerEvent[] {
  const reader = format.openReader(limits);
  return [...inPieces(bytes, cuts, (piece) => reader.push(piece)).flat(), ...reader.close()];
}

test("a stream is read into the same events, however it is cut", () => {
  const whole = read(frames);
  fc.assert(
    fc.property(cutPlaces, (cuts) => {
      expect(read(frames, cuts)).toEqual(whole);
    }),
  );
  expect(gatherAnswer(whole)).toMatchObject({
    choices: [
      {
        parts: [
          { type: "reasoning", text: "hm", signature: "bedrock:s" },
          { type: "text", text: "Héllo 🦜", citations: [{ title: "T" }] },
          { type: "tool_call", id: "1", name: "f", arguments: '{"x":1}' },
        ],
        finish: "tool_calls",
      },
    ],
    usage: { usage: { input: 3, cache_read: 2, output: 4 } },
  });
  expect(whole.at(-1)).toEqual({ type: "end" });
});

test("a passing stream is the same bytes, and its usage and text are found", () => {
  fc.assert(
    fc.property(cutPlaces, (cuts) => {
      const stream = format.openPassing(limits);
      const passed = inPieces(frames, cuts, (piece) => stream.push(piece).pass).flat();
      expect(Buffer.concat(passed).equals(frames)).toBe(true);
      expect(stream.close()).toEqual({ pass: [], end: {} });
      expect(stream.usage?.usage).toEqual({ input: 3, cache_read: 2, output: 4 });
      expect(stream.relayed.toString()).toBe('hmHéllo 🦜{"x":1}');
    }),
  );
});

test("what breaks a stream is told: an exception, a cut, a wrong checksum, a frame without bound", () => {
  const last = (bytes: Buffer) => {
    const stream = format.openPassing(limits);
    return (stream.push(bytes).end ?? stream.close().end)?.error?.message;
  };
  const exception = writeFrame("exception", "throttlingException", { message: "slow down" });
  expect(last(Buffer.concat([frames.subarray(0, 90), exception]))).toContain("cannot be read");
  expect(last(Buffer.from(exception))).toContain("slow down");
  expect(read(Buffer.from(exception)).at(-1)).toMatchObject({
    type: "error",
    error: { code: "rate_limit_exceeded" },
  });
  expect(last(frames.subarray(0, frames.length - 3))).toContain("middle of the answer");
  const wrong = Buffer.from(frames);
  wrong[50] = (wrong[50] ?? 0) ^ 1;
  expect(last(wrong)).toContain("cannot be read");
  expect(last(Buffer.from([0x7f, 0xff, 0xff, 0xff, 0]))).toContain("cannot be read");
});
