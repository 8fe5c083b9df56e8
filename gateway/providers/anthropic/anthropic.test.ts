/** What is written for Anthropic is what it takes, and what it streams passes unharmed. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { findFault } from "../../../test/emulators/anthropic-rules.ts";
import type { CanonicalRequest, Turn } from "../../canonical/request.ts";
import { messageStop } from "../../dialects/anthropic-messages/stream.ts";
import { readCanonicalChat } from "../../dialects/openai-chat/canonical.ts";
import { writeMessagesBody } from "./body.ts";
import { readAnthropicError } from "./errors.ts";
import { narrowSchema } from "./narrow-schema.ts";
import { MessageStream } from "./stream.ts";

const user: Turn = { role: "user", parts: [{ type: "text", text: "Hi" }] };

const called = (maker: string): Turn => ({
  role: "assistant",
  parts: [
    { type: "reasoning", text: "Hm.", signature: `${maker}:abc` },
    { type: "tool_call", id: "a", name: "look", arguments: "{}" },
  ],
});

function ask(more: Partial<CanonicalRequest>): CanonicalRequest {
  return {
    model: "claude-opus-4-8",
    instructions: [],
    turns: [user],
    tools: [],
    choices: 1,
    stop: [],
    outputTokensMax: 5000,
    stream: false,
    rest: {},
    ...more,
  };
}

function faultOf(body: Record<string, unknown>): string | undefined {
  return findFault(body as never, { counts: false, version: "2023-06-01" });
}

test("turns alternate, results come first, and blank texts are gone, whatever a client sends", () => {
  const text = fc.constantFrom("", " ", "Hello", "two words ", "Grüße 🦜\n");
  const id = fc.constantFrom("call_1", "call_function", "a.b:c/ü", "", "x".repeat(80));
  const said = text.map((one): Turn[] => [{ role: "user", parts: [{ type: "text", text: one }] }]);
  const later = text.map((one): Turn[] => [
    { role: "system", parts: [{ type: "text", text: one }] },
  ]);
  const answered = text.map((one): Turn[] => [
    { role: "assistant", parts: [{ type: "text", text: one }] },
  ]);
  const called = fc
    .tuple(text, fc.uniqueArray(id, { minLength: 1 }), fc.string(), fc.option(later))
    .map(([before, ids, result, between]): Turn[] => [
      {
        role: "assistant",
        parts: [
          { type: "reasoning", text: "Hm.", signature: "google:abc" },
          { type: "text", text: before },
          ...ids.map((one) => ({
            type: "tool_call" as const,
            id: one,
            name: "look",
            arguments: result,
          })),
        ],
      },
      ...(between ?? []),
      ...ids.toReversed().map((one): Turn => {
        const parts = [{ type: "text" as const, text: result }];
        return { role: "tool", result: { callId: one, parts } };
      }),
    ]);
  fc.assert(
    fc.property(fc.array(fc.oneof(said, later, answered, called)), (steps) => {
      const { body } = writeMessagesBody(ask({ turns: steps.flat() }));
      expect(faultOf(body)).toBeUndefined();
    }),
  );
});

test("sampling, thinking and choices are bent to what goes together, and all that is bent is told", () => {
  const cases: [Partial<CanonicalRequest>, object, string[]][] = [
    [{ temperature: 1.7 }, { temperature: 1 }, ["temperature"]],
    [{ temperature: 0.5, topP: 0.9 }, { temperature: 0.5 }, ["topP"]],
    [{ topP: 0.9, topK: 5 }, { top_p: 0.9, top_k: 5 }, []],
    [
      { reasoning: { effort: "high" }, temperature: 0.5, topK: 5 },
      { thinking: { type: "adaptive" }, output_config: { effort: "high" } },
      ["temperature", "topK"],
    ],
    [
      { reasoning: { tokensMax: 3000, visible: false } },
      { thinking: { type: "adaptive", display: "omitted" }, output_config: { effort: "medium" } },
      [],
    ],
    [{ reasoning: { effort: "none" } }, { thinking: { type: "disabled" } }, []],
    [
      { model: "claude-sonnet-4-5-20250929", reasoning: { effort: "max" } },
      { thinking: { type: "enabled", budget_tokens: 4999 } },
      [],
    ],
    [
      { model: "claude-haiku-4-5", reasoning: { tokensMax: 10 } },
      { thinking: { type: "enabled", budget_tokens: 1024 } },
      [],
    ],
    [
      { model: "claude-opus-4-1", reasoning: { effort: "low" }, outputTokensMax: 500 },
      {},
      ["reasoning"],
    ],
    [
      // A thought that another one signed is none to go on from.
      { model: "claude-sonnet-4-5", reasoning: { effort: "low" }, turns: [user, called("google")] },
      {},
      ["reasoning", "messages.reasoning"],
    ],
    [
      {
        model: "claude-sonnet-4-5",
        reasoning: { effort: "low" },
        turns: [user, called("anthropic")],
      },
      { thinking: { type: "enabled", budget_tokens: 2048 } },
      [],
    ],
    [{ model: "claude-3-5-haiku-latest", reasoning: { effort: "low" } }, {}, ["reasoning"]],
    [
      {
        reasoning: { effort: "low" },
        tools: [{ type: "function", name: "look" }],
        toolChoice: { type: "required" },
        parallelToolCalls: false,
      },
      { tool_choice: { type: "any", disable_parallel_tool_use: true } },
      ["reasoning"],
    ],
    [{ toolChoice: { type: "required" } }, {}, []],
    [{ stop: ["END", " \n"] }, { stop_sequences: ["END"] }, ["stop"]],
    [{ seed: 1, minP: 0.1, metadata: { a: "b" } }, {}, ["seed", "minP", "metadata"]],
    [{ rest: { service_tier: "flex", store: true } }, {}, ["service_tier", "store"]],
    [{ output: { type: "json" } }, { system: [expect.anything()] }, ["response_format"]],
  ];
  for (const [more, expected, dropped] of cases) {
    const written = writeMessagesBody(ask(more));
    expect(faultOf(written.body)).toBeUndefined();
    const { model: _, max_tokens: __, messages: ___, tools: ____, ...rest } = written.body;
    expect(rest, JSON.stringify(more)).toEqual(expected);
    expect(written.dropped, JSON.stringify(more)).toEqual(dropped);
  }
});

test("what would change the answer is refused by its name", () => {
  const chat = (fields: object) => () =>
    writeMessagesBody(
      readCanonicalChat({ model: "m", messages: [{ role: "user", content: "Hi" }], ...fields }),
    );
  const content = (part: object) => chat({ messages: [{ role: "user", content: [part] }] });
  const cases: [() => unknown, string][] = [
    [chat({ n: 2 }), "n"],
    [chat({ logprobs: true }), "logprobs"],
    [chat({ tools: [{ type: "custom", custom: { name: "shell" } }] }), "tools"],
    [chat({ tools: [{ type: "web_search" }] }), "tools"],
    [content({ type: "input_audio", input_audio: { data: "AA", format: "wav" } }), "messages"],
    [content({ type: "image_url", image_url: { url: "data:image/tiff;base64,AA" } }), "messages"],
    [content({ type: "file", file: { file_data: "data:application/zip;base64,AA" } }), "messages"],
  ];
  for (const [run, param] of cases) {
    expect(run).toThrow(expect.objectContaining({ code: "unsupported_parameter", param }));
  }
});

test("a request has four cache marks at most", () => {
  const parts = Array.from({ length: 6 }, () => ({ type: "text" as const, text: "a", cache: {} }));
  const { body, dropped } = writeMessagesBody(ask({ turns: [{ role: "user", parts }] }));
  expect(JSON.stringify(body).match(/cache_control/g)).toHaveLength(4);
  expect(dropped).toEqual(["cache_control"]);
});

test("a schema keeps what Anthropic enforces, tells the model the rest, and names it", () => {
  const { schema, left } = narrowSchema({
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    required: ["a"],
    properties: {
      a: { type: "string", minLength: 2, pattern: "^x", description: "A name." },
      b: { type: "array", items: { type: "integer", minimum: 0 }, minItems: 3 },
      c: { oneOf: [{ type: "string", format: "email" }, { $ref: "#/$defs/d" }] },
    },
    additionalProperties: { type: "string" },
    $defs: { d: { type: "object", properties: { ["__proto__"]: { const: 1 } } } },
  });
  expect(schema).toEqual({
    type: "object",
    required: ["a"],
    properties: {
      a: { type: "string", description: 'A name.\n\n{minLength: 2, pattern: "^x"}' },
      b: {
        type: "array",
        items: { type: "integer", description: "{minimum: 0}" },
        description: "{minItems: 3}",
      },
      c: { anyOf: [{ type: "string", format: "email" }, { $ref: "#/$defs/d" }] },
    },
    $defs: {
      d: {
        type: "object",
        properties: JSON.parse('{"__proto__":{"const":1}}'),
        additionalProperties: false,
      },
    },
    additionalProperties: false,
  });
  expect(left.sort()).toEqual([
    "additionalProperties",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
  ]);
});

test("a limit that was reached says when it is there again", () => {
  const error = (headers: Record<string, string>) =>
    readAnthropicError(
      { status: 429, header: (name) => headers[name] },
      Buffer.from('{"error":{"type":"rate_limit_error","message":"slow down"}}'),
      "claude",
    );
  const limits = {
    date: "Sat, 21 Nov 2026 00:00:00 GMT",
    "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "2026-11-21T00:00:07Z",
    "anthropic-ratelimit-tokens-remaining": "5",
    "anthropic-ratelimit-tokens-reset": "2026-11-21T00:00:30Z",
  };
  expect(error(limits)).toMatchObject({ code: "rate_limit_exceeded", retryAfterMs: 7000 });
  expect(error({ ...limits, "retry-after": "3" })).toMatchObject({ retryAfterMs: 3000 });
  expect(error({}).retryAfterMs).toBeUndefined();
});

const events = [
  'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":5,"output_tokens":1}}}\n\n',
  'event: ping\ndata: {"type":"ping"}\n\n',
  'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
  'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grüße \\"usage\\": 🦜"}}\n\n',
  'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
  'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}\n\n',
];

test("a stream passes byte for byte however it is cut, and its end waits to be settled", () => {
  const bytes = Buffer.from(events.join("") + messageStop);
  const expected = events.join("");
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(bytes.length), { maxLength: 8 }), (cuts) => {
      const stream = new MessageStream({ frameBytesMax: 1000, relayedTextCharsMax: 1000 });
      const passed: Uint8Array[] = [];
      let ended = false;
      let start = 0;
      for (const cut of [...cuts.sort((a, b) => a - b), bytes.length]) {
        const step = stream.push(bytes.subarray(start, cut));
        passed.push(...step.pass);
        if (step.end) {
          expect(step.end.error).toBeUndefined();
          ended = true;
        }
        start = cut;
      }
      expect(ended).toBe(true);
      expect(Buffer.concat(passed).toString()).toBe(expected);
      expect(stream.usage?.usage).toEqual({ input: 5, output: 9 });
      expect(stream.relayed.toString()).toBe('Grüße "usage": 🦜');
    }),
  );
});

test("an answer has begun with its first block, and a stream that breaks is told as broken", () => {
  const open = () => new MessageStream({ frameBytesMax: 1000, relayedTextCharsMax: 1000 });
  const push = (stream: MessageStream, text: string) => stream.push(Buffer.from(text));
  const stream = open();
  push(stream, `${events[0]}${events[1]}`);
  expect(stream.begun).toBe(false);
  push(stream, events[2] ?? "");
  expect(stream.begun).toBe(true);
  expect(stream.close().end?.error).toMatchObject({ code: "upstream_error" });

  // Some proxies forget the last frame.
  const forgetful = open();
  push(forgetful, events.join(""));
  expect(forgetful.close()).toEqual({ pass: [], end: {} });

  const overloaded =
    'data: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n';
  for (const frame of [`event: error\n${overloaded}`, overloaded]) {
    expect(push(open(), frame).end?.error).toMatchObject({ code: "upstream_unavailable" });
  }
  expect(push(open(), "x".repeat(2000)).end?.error).toMatchObject({ code: "upstream_error" });
});
