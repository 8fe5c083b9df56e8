/** What is said in Anthropic's messages comes through the canonical form as it was, and streams through any cuts. */
import Anthropic from "@anthropic-ai/sdk";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AnswerEvent, gatherAnswer } from "../../canonical/answer.ts";
import { anthropicFormat } from "../../providers/anthropic/format.ts";
import type { AnswerHead } from "../dialect.ts";
import { readCanonicalMessages } from "./canonical.ts";
import { anthropicMessages } from "./index.ts";

const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20 };
const head: AnswerHead = {
  id: "req_1",
  createdAtMs: 5000,
  nowMs: () => 6000,
  request: () => ({}),
  model: "asked",
  wantsUsage: true,
};
const cache = { cache_control: { type: "ephemeral", ttl: "1h" } };

test("a request with everything comes through as it was", () => {
  const body = {
    model: "claude-opus-4-8",
    max_tokens: 5000,
    system: [{ type: "text", text: "Be brief.", ...cache }],
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "What is this?" },
          { type: "image", source: { type: "base64", media_type: "image/png", data: "AAAA" } },
          { type: "image", source: { type: "url", url: "https://a/b.png" } },
          {
            type: "document",
            source: { type: "base64", media_type: "application/pdf", data: "BBBB" },
            title: "a.pdf",
          },
          {
            type: "document",
            source: { type: "text", media_type: "text/plain", data: "Grüße" },
            ...cache,
          },
          { type: "document", source: { type: "file", file_id: "file_1" } },
        ],
      },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "Hm.", signature: "c2ln" },
          { type: "redacted_thinking", data: "aGlk" },
          { type: "text", text: "I look." },
          { type: "tool_use", id: "toolu_1", name: "look", input: { x: 1 } },
          { type: "tool_use", id: "toolu_2", name: "now", input: {} },
        ],
      },
      {
        role: "user",
        content: [
          {
            type: "tool_result",
            tool_use_id: "toolu_1",
            content: [
              { type: "text", text: "a cat" },
              { type: "image", source: { type: "base64", media_type: "image/png", data: "CC" } },
            ],
          },
          { type: "tool_result", tool_use_id: "toolu_2", is_error: true },
          { type: "text", text: "Go on." },
        ],
      },
    ],
    stream: true,
    tools: [
      {
        name: "look",
        description: "d",
        input_schema: { type: "object", properties: { x: { type: "number" } } },
        ...cache,
      },
      { type: "bash_20250124", name: "bash" },
    ],
    tool_choice: { type: "auto", disable_parallel_tool_use: true },
    thinking: { type: "adaptive", display: "summarized" },
    output_config: {
      effort: "xhigh",
      format: {
        type: "json_schema",
        schema: { type: "object", properties: {}, additionalProperties: false },
      },
    },
    stop_sequences: ["END"],
    metadata: { user_id: "u" },
    service_tier: "standard_only",
  };
  const { body: written, dropped } = anthropicFormat.writeBody(readCanonicalMessages(body));
  expect(written).toEqual(body);
  expect(dropped).toEqual([]);
  const { max_tokens, temperature, top_k } = anthropicFormat.writeBody(
    readCanonicalMessages({
      ...body,
      thinking: null,
      output_config: null,
      temperature: 1,
      top_k: 5,
    }),
  ).body;
  expect({ max_tokens, temperature, top_k }).toEqual({
    max_tokens: 5000,
    temperature: 1,
    top_k: 5,
  });
});

test("what has no place is named, and what Anthropic itself would do is refused by its name", () => {
  const ask = { model: "m", max_tokens: 9, messages: [{ role: "user", content: "Hi" }] };
  const { rest } = readCanonicalMessages({
    ...ask,
    tools: [{ name: "a", input_schema: { type: "object" }, defer_loading: true }],
    context_management: { edits: [] },
    speed: "fast",
  });
  expect(Object.keys(rest).sort()).toEqual(["context_management", "speed", "tools.defer_loading"]);
  const read = (fields: object) => () => readCanonicalMessages({ ...ask, ...fields });
  const said = (content: unknown, role = "user") => read({ messages: [{ role, content }] });
  const cases: [() => unknown, string][] = [
    [read({ container: "c" }), "container"],
    [read({ mcp_servers: [{}] }), "mcp_servers"],
    [said([{ type: "hologram" }]), "messages[0].content[0]"],
    [
      said([{ type: "tool_result", tool_use_id: "a", content: [{ type: "x" }] }]),
      "messages[0].content[0].content[0]",
    ],
    [
      said([{ type: "image", source: { type: "base64" } }]),
      "messages[0].content[0].source.media_type",
    ],
    [said([{ type: "server_tool_use", id: "a" }], "assistant"), "messages[0].content[0]"],
    [said([{ type: "image", source: {} }], "assistant"), "messages[0].content[0]"],
  ];
  for (const [run, param] of cases) expect(run).toThrow(expect.objectContaining({ param }));
});

test("seals of other providers reach the client and come back, each to its place", () => {
  const events: AnswerEvent[] = [
    { type: "reasoning", choice: 0, text: "Hm." },
    { type: "reasoning_seal", choice: 0, signature: "bedrock:abc" },
    { type: "reasoning_seal", choice: 0, encrypted: "unmarked" },
    { type: "tool_call", choice: 0, call: 0, id: "a", name: "look", signature: "google:xyz" },
    { type: "tool_arguments", choice: 0, call: 0, text: "{}" },
    { type: "finish", choice: 0, reason: "tool_calls" },
  ];
  const { content } = anthropicMessages.writeAnswer(gatherAnswer(events), head) as { content: [] };
  expect(content).toMatchObject([
    { type: "thinking", thinking: "Hm.", signature: "bedrock:abc" },
    { type: "redacted_thinking", data: "other:unmarked" },
    { type: "thinking", thinking: "", signature: "call:google:xyz" },
    { type: "tool_use", id: "a" },
  ]);
  const messages = [
    { role: "user", content: "Hi" },
    { role: "assistant", content },
  ];
  const { turns } = readCanonicalMessages({ model: "m", max_tokens: 9, messages });
  expect(turns[1]).toEqual({
    role: "assistant",
    parts: [
      { type: "reasoning", text: "Hm.", signature: "bedrock:abc" },
      { type: "reasoning", text: "", encrypted: "unmarked" },
      { type: "tool_call", id: "a", name: "look", arguments: "{}", signature: "google:xyz" },
    ],
  });
});

const usage = {
  input_tokens: 10,
  cache_read_input_tokens: 4,
  cache_creation_input_tokens: 3,
  output_tokens: 7,
  output_tokens_details: { thinking_tokens: 2 },
};
const citation = {
  type: "char_location",
  cited_text: "Hé",
  document_index: 0,
  document_title: "a",
  start_char_index: 0,
  end_char_index: 2,
  file_id: null,
};
const content = [
  { type: "thinking", thinking: "Hm. So.", signature: "c2ln" },
  { type: "redacted_thinking", data: "aGlk" },
  { type: "text", text: "Héllo 🦜", citations: [citation] },
  { type: "tool_use", id: "toolu_1", name: "look", input: { x: [1, "ö"] } },
  { type: "tool_use", id: "toolu_2", name: "now", input: {} },
];
const stopped = { stop_reason: "tool_use", stop_sequence: null, stop_details: null };
const message = {
  id: "msg_7",
  type: "message",
  role: "assistant",
  model: "real",
  content,
  ...stopped,
  usage,
};
const frames = (events: readonly { type: string; [field: string]: unknown }[]) =>
  events.map((one) => `event: ${one.type}\ndata: ${JSON.stringify(one)}\n\n`).join("");
const block = (index: number, content_block: object, deltas: readonly object[]) => [
  { type: "content_block_start", index, content_block },
  ...deltas.map((delta) => ({ type: "content_block_delta", index, delta })),
  { type: "content_block_stop", index },
];
const streamed = frames([
  {
    type: "message_start",
    message: { ...message, content: [], usage: { ...usage, output_tokens: 1 } },
  },
  { type: "ping" },
  ...block(0, { type: "thinking", thinking: "", signature: "" }, [
    { type: "thinking_delta", thinking: "Hm." },
    { type: "thinking_delta", thinking: " So." },
    { type: "signature_delta", signature: "c2ln" },
  ]),
  ...block(1, { type: "redacted_thinking", data: "aGlk" }, []),
  ...block(2, { type: "text", text: "" }, [
    { type: "text_delta", text: "Hé" },
    { type: "text_delta", text: "llo 🦜" },
    { type: "citations_delta", citation },
  ]),
  ...block(3, { type: "tool_use", id: "toolu_1", name: "look", input: {} }, [
    { type: "input_json_delta", partial_json: "" },
    { type: "input_json_delta", partial_json: '{"x":[1,' },
    { type: "input_json_delta", partial_json: '"ö"]}' },
  ]),
  ...block(4, { type: "tool_use", id: "toolu_2", name: "now", input: {} }, [
    { type: "input_json_delta", partial_json: "" },
  ]),
  { type: "message_delta", delta: stopped, usage },
  { type: "message_stop" },
]);

function translate(bytes: Uint8Array, cuts: readonly number[]): string {
  const reader = anthropicFormat.openReader(limits);
  const events: AnswerEvent[] = [];
  let start = 0;
  for (const cut of [...cuts, bytes.length]) {
    events.push(...reader.push(bytes.subarray(start, cut)));
    start = cut;
  }
  events.push(...reader.close());
  return write(events);
}

function write(events: readonly AnswerEvent[]): string {
  const writer = anthropicMessages.openWriter(head);
  const written = events.map((event) => writer.write(event) ?? new Uint8Array());
  return Buffer.concat([...written, writer.end(undefined) ?? new Uint8Array()]).toString();
}

/** What Anthropic's own client makes of a stream. */
async function understood(stream: string): Promise<unknown> {
  const client = new Anthropic({
    apiKey: "k",
    fetch: async () => new Response(stream, { headers: { "content-type": "text/event-stream" } }),
  });
  const final = await client.messages
    .stream({ model: "m", max_tokens: 1, messages: [] })
    .finalMessage();
  return JSON.parse(JSON.stringify(final));
}

test("a stream however it is cut becomes the same stream, which the official client understands", async () => {
  const bytes = Buffer.from(streamed);
  const whole = translate(bytes, []);
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(bytes.length), { maxLength: 8 }), (cuts) => {
      const sorted = cuts.sort((a, b) => a - b);
      expect(translate(bytes, sorted)).toBe(whole);
    }),
  );
  expect(await understood(whole)).toMatchObject(message);
  expect(await understood(streamed)).toMatchObject(message);
});

test("a whole answer says the same as its stream", () => {
  const events = anthropicFormat.readAnswer(Buffer.from(JSON.stringify(message)));
  expect(anthropicMessages.writeAnswer(gatherAnswer(events), head)).toMatchObject(message);
});

test("calls that are written at once become one block after the other, whatever their order", async () => {
  const calls = fc.array(
    fc.record({ x: fc.string(), nested: fc.array(fc.dictionary(fc.string(), fc.string())) }),
    { minLength: 1, maxLength: 4 },
  );
  await fc.assert(
    fc.asyncProperty(calls, fc.infiniteStream(fc.nat()), async (inputs, choices) => {
      const waiting = inputs.map((input, call): AnswerEvent[] => [
        { type: "tool_call", choice: 0, call, id: `call_${call}`, name: "look" },
        ...(JSON.stringify(input).match(/.{1,3}/gsu) ?? []).map(
          (text): AnswerEvent => ({ type: "tool_arguments", choice: 0, call, text }),
        ),
      ]);
      // Calls begin in their order; their pieces come as they come.
      const events: AnswerEvent[] = waiting.flatMap((one) => one.splice(0, 1));
      while (waiting.some((one) => one.length > 0)) {
        const open = waiting.filter((one) => one.length > 0);
        const next = open[Number(choices.next().value) % open.length]?.shift();
        if (next) events.push(next);
      }
      events.push({ type: "finish", choice: 0, reason: "tool_calls" });
      const stream = write(events);
      expect(await understood(stream)).toMatchObject({
        content: inputs.map((input, call) => ({ type: "tool_use", id: `call_${call}`, input })),
      });
      const marks = [...stream.matchAll(/^event: content_block_(start|stop)$/gm)].map(
        ([, at]) => at,
      );
      expect(marks).toEqual(inputs.flatMap(() => ["start", "stop"]));
    }),
    { numRuns: 30 },
  );
});

test("reasons to stop, refusals and the end of a stream have their names", async () => {
  const said = (events: AnswerEvent[]) =>
    understood(write([{ type: "text", choice: 0, text: "Hi" }, ...events]));
  const finish = (reason: "length" | "stop_sequence" | "content_filter", more = {}) =>
    said([{ type: "finish", choice: 0, reason, ...more }]);
  expect(await finish("length")).toMatchObject({ stop_reason: "max_tokens" });
  expect(await finish("stop_sequence", { stopSequence: "END" })).toMatchObject({
    stop_reason: "stop_sequence",
    stop_sequence: "END",
  });
  expect(await finish("content_filter")).toMatchObject({ stop_reason: "refusal" });
  expect(await said([{ type: "refusal", choice: 0, text: " No." }])).toMatchObject({
    content: [{ type: "text", text: "Hi No." }],
    stop_reason: "refusal",
    stop_details: { type: "refusal", explanation: " No." },
  });
  expect(await understood(write([]))).toMatchObject({ content: [], stop_reason: "end_turn" });
});

test("an input that was cut off is kept as the text that it is", () => {
  const events: AnswerEvent[] = [
    { type: "tool_call", choice: 0, call: 0, id: "a", name: "look" },
    { type: "tool_arguments", choice: 0, call: 0, text: '{"x":' },
    { type: "finish", choice: 0, reason: "length" },
  ];
  expect(anthropicMessages.writeAnswer(gatherAnswer(events), head)).toMatchObject({
    content: [{ type: "tool_use", input: { rawInvalidInput: '{"x":' } }],
    stop_reason: "max_tokens",
  });
});
