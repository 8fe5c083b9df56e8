/** Canonical requests as Cohere's chats, and its answers as canonical events, read from the published format. */
import { expect, test } from "vitest";
import { type AnswerEvent, gatherAnswer } from "../../canonical/answer.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { writeCohereBody } from "./body.ts";
import { writeEmbedBody } from "./embeddings.ts";
import { readCohereError } from "./errors.ts";
import { CohereReader, readCohereEvents } from "./reader.ts";
import { parseCohereAnswer, readCohereUsage } from "./response.ts";

const text = (words: string) => ({ type: "text" as const, text: words });
const user = { role: "user" as const, parts: [text("Hi")] };
const request = (more: Partial<CanonicalRequest>): CanonicalRequest => ({
  model: "command-a",
  instructions: [],
  turns: [user],
  tools: [],
  choices: 1,
  stop: [],
  stream: false,
  rest: {},
  ...more,
});
const tool = (name: string, more: object = {}) => ({ type: "function" as const, name, ...more });
const limits = { frameBytesMax: 1 << 20, relayedTextCharsMax: 1 << 20 };

test("a conversation becomes messages, its texts in files documents", () => {
  const file = (mediaType: string, name?: string) => ({
    type: "file" as const,
    source: { type: "base64" as const, mediaType, data: Buffer.from("cats").toString("base64") },
    ...(name && { name }),
  });
  const { body, dropped } = writeCohereBody(
    request({
      instructions: [text("Be brief."), text("Be kind.")],
      turns: [
        { role: "user", parts: [text("Look:"), file("text/plain", "a.txt"), image] },
        {
          role: "assistant",
          parts: [
            { type: "reasoning", text: "I will look.", signature: "cohere:plan" },
            { type: "reasoning", text: "Hm.", signature: "cohere:thinking" },
            { type: "reasoning", text: "Another's.", signature: "anthropic:c2ln" },
            text("Looking."),
            { type: "tool_call", id: "c1", name: "look", arguments: "" },
          ],
        },
        { role: "tool", result: { callId: "c1", parts: [text("gone"), image], isError: true } },
        { role: "system", parts: [text("Now be long.")] },
      ],
    }),
  );
  expect(body).toEqual({
    model: "command-a",
    stream: false,
    documents: [{ id: "doc-0", data: { title: "a.txt", text: "cats" } }],
    messages: [
      { role: "system", content: "Be brief.\n\nBe kind." },
      { role: "user", content: [text("Look:"), picture] },
      {
        role: "assistant",
        content: [{ type: "thinking", thinking: "Hm." }, text("Looking.")],
        tool_plan: "I will look.",
        tool_calls: [{ id: "c1", type: "function", function: { name: "look", arguments: "{}" } }],
      },
      { role: "tool", tool_call_id: "c1", content: "Error: gone" },
      { role: "user", content: [picture] },
      { role: "user", content: "Now be long." },
    ],
  });
  expect(dropped.sort()).toEqual(["messages.reasoning", "messages.system"]);
  // Beside a format there are no documents.
  const formatted = request({ turns: [{ role: "user", parts: [file("text/plain")] }] });
  const { body: inline } = writeCohereBody({ ...formatted, output: { type: "json" } });
  expect(inline.messages).toEqual([{ role: "user", content: [text("cats")] }]);
  expect(() =>
    writeCohereBody(request({ turns: [{ role: "user", parts: [file("application/pdf")] }] })),
  ).toThrow(/application\/pdf/);
});

test("parameters have its names and bounds, and what is changed is told", () => {
  const { body, dropped } = writeCohereBody(
    request({
      outputTokensMax: 9,
      temperature: 1.5,
      topP: 1,
      topK: 5,
      minP: 0.1,
      frequencyPenalty: 2,
      presencePenalty: 0.5,
      seed: 7,
      stop: ["\n"],
      topLogprobs: 0,
      user: "u",
      output: { type: "json_schema", name: "x", schema: { type: "object" } },
      reasoning: { effort: "low" },
      rest: { safety_mode: "STRICT", store: true },
    }),
  );
  expect(body).toMatchObject({
    max_tokens: 9,
    temperature: 1.5,
    p: 0.99,
    k: 5,
    frequency_penalty: 1,
    seed: 7,
    stop_sequences: ["\n"],
    logprobs: true,
    thinking: { type: "enabled", token_budget: 2048 },
    response_format: { type: "json_object", json_schema: { type: "object" } },
    safety_mode: "STRICT",
  });
  expect(body).not.toHaveProperty("presence_penalty");
  expect(dropped.sort()).toEqual(
    ["frequencyPenalty", "minP", "presencePenalty", "store", "topP", "user"].sort(),
  );
  const thinks = (reasoning: CanonicalRequest["reasoning"]) =>
    writeCohereBody(request({ ...(reasoning && { reasoning }) })).body.thinking;
  expect(thinks({ effort: "none" })).toEqual({ type: "disabled" });
  expect(thinks({ tokensMax: 99 })).toEqual({ type: "enabled", token_budget: 99 });
  expect(thinks({ effort: "high" })).toEqual({ type: "enabled" });
  expect(thinks(undefined)).toBeUndefined();
});

test("a tool by its name is the only one there is, and strictness holds for all or none", () => {
  const required = { parameters: { type: "object", required: ["x"] }, strict: true };
  const tools = [tool("look", required), tool("now")];
  const write = (more: Partial<CanonicalRequest>) => writeCohereBody(request({ tools, ...more }));
  expect(write({ toolChoice: { type: "tool", name: "look" } }).body).toMatchObject({
    tools: [{ type: "function", function: { name: "look" } }],
    tool_choice: "REQUIRED",
    strict_tools: true,
  });
  const { body, dropped } = write({ toolChoice: { type: "none" } });
  expect(body).toMatchObject({ tool_choice: "NONE" });
  expect((body.tools as object[])[1]).toEqual({
    type: "function",
    function: { name: "now", parameters: { type: "object", properties: {} } },
  });
  expect(dropped).toEqual(["tools.strict"]);
  expect(write({ toolChoice: { type: "auto" } }).body).not.toHaveProperty("tool_choice");
});

test.each<[string, Partial<CanonicalRequest>, string]>([
  ["several choices", { choices: 2 }, "n"],
  ["other likely tokens", { topLogprobs: 2 }, "top_logprobs"],
  ["biases", { logitBias: { 1: 5 } }, "logit_bias"],
  ["tools beside a format", { tools: [tool("a")], output: { type: "json" } }, "response_format"],
  ["six stops", { stop: [..."abcdef"] }, "stop"],
  ["a tool of free text", { tools: [{ type: "custom", name: "sh" }] }, "tools"],
  [
    "a tool that is not there",
    { tools: [tool("a")], toolChoice: { type: "tool", name: "b" } },
    "tool_choice",
  ],
])("%s are refused by name", (_what, more, param) => {
  expect(() => writeCohereBody(request(more))).toThrow(
    expect.objectContaining({ code: "unsupported_parameter", param }),
  );
});

test("a whole answer is read, citations in units of the whole text", () => {
  const answer = gatherAnswer(
    readCohereEvents(
      parseCohereAnswer(
        Buffer.from(
          JSON.stringify({
            id: "c1",
            finish_reason: "TOOL_CALL",
            message: {
              role: "assistant",
              tool_plan: "I will look.",
              content: [
                { type: "thinking", thinking: "Hm." },
                { type: "text", text: "🦜 says " },
                { type: "text", text: "🦜 hello" },
              ],
              citations: [cited, { ...cited, type: "PLAN" }],
              tool_calls: [{ id: "t1", type: "function", function: { name: "now" } }],
            },
            usage: { billed_units: { input_tokens: 5, output_tokens: 3 }, cached_tokens: 99 },
            logprobs: [{ text: "🦜 says", token_ids: [1, 2], logprobs: [-1, -0.5] }],
          }),
        ),
      ),
    ),
  );
  expect(answer).toMatchObject({
    id: "c1",
    choices: [
      {
        finish: "tool_calls",
        parts: [
          { type: "reasoning", text: "I will look.", signature: "cohere:plan" },
          { type: "reasoning", text: "Hm.", signature: "cohere:thinking" },
          {
            type: "text",
            text: "🦜 says 🦜 hello",
            citations: [{ url: "https://a.example", title: "A", start: 11, end: 16 }],
          },
          { type: "tool_call", id: "t1", name: "now", arguments: "{}" },
        ],
        logprobs: [{ token: "🦜 says", logprob: -1.5 }],
      },
    ],
    usage: { usage: { input: 0, cache_read: 5, output: 3 } },
  });
});

test("a stream is read, however its bytes are cut, and its end is never taken for granted", () => {
  const frames = [
    { type: "message-start", id: "c1", delta: { message: { role: "assistant" } } },
    { type: "tool-plan-delta", delta: { message: { tool_plan: "I will " } } },
    { type: "tool-plan-delta", delta: { message: { tool_plan: "look." } } },
    {
      type: "tool-call-start",
      index: 0,
      delta: { message: { tool_calls: { id: "t1", function: { name: "look", arguments: "" } } } },
    },
    {
      type: "tool-call-delta",
      index: 0,
      delta: { message: { tool_calls: { function: { arguments: '{"x":"ö"}' } } } },
    },
    { type: "tool-call-end", index: 0 },
    { type: "debug", prompt: "whatever comes later" },
    {
      type: "message-end",
      delta: {
        finish_reason: "TOOL_CALL",
        usage: { billed_units: { input_tokens: 5, output_tokens: 3 } },
      },
    },
  ];
  const bytes = Buffer.from(frames.map((one) => `data: ${JSON.stringify(one)}\n\n`).join(""));
  const readIn = (size: number, end = bytes.length) => {
    const reader = new CohereReader(limits);
    const events: AnswerEvent[] = [];
    for (let at = 0; at < end; at += size) {
      events.push(...reader.push(bytes.subarray(at, Math.min(at + size, end))));
    }
    return [...events, ...reader.close()];
  };
  const events = readIn(bytes.length);
  expect(events.at(-1)).toEqual({ type: "end" });
  expect(gatherAnswer(events).choices[0]).toMatchObject({
    finish: "tool_calls",
    parts: [
      { type: "reasoning", text: "I will look.", signature: "cohere:plan" },
      { type: "tool_call", id: "t1", arguments: '{"x":"ö"}' },
    ],
  });
  for (const size of [1, 3, 50]) expect(readIn(size)).toEqual(events);
  expect(readIn(40, bytes.length - 60).at(-1)).toMatchObject({ type: "error" });
});

test.each([
  [{ finish_reason: "ERROR", error: "overloaded" }, "upstream_error"],
  [{ finish_reason: "ERROR" }, "upstream_error"],
  [{ finish_reason: "TIMEOUT" }, "upstream_timeout"],
])("an answer that ends with %j is none", (delta, code) => {
  const reader = new CohereReader(limits);
  const frame = `data: ${JSON.stringify({ type: "message-end", delta })}\n\n`;
  expect(reader.push(Buffer.from(frame))).toMatchObject([{ type: "error", error: { code } }]);
});

test.each([
  [401, "upstream_auth_failed"],
  [402, "upstream_unavailable"],
  [404, "upstream_model_not_found"],
  [429, "rate_limit_exceeded"],
  [498, "invalid_value"],
  [500, "upstream_error"],
  [503, "upstream_unavailable"],
  [504, "upstream_timeout"],
])("status %i is told as %s", (status, code) => {
  const response = { status, header: () => undefined };
  const body = Buffer.from(JSON.stringify({ id: "x", message: "its words" }));
  expect(readCohereError(response, body, "co")).toMatchObject({ code });
});

test("a prompt that is too long is told as such, so that another model may be asked", () => {
  const message = "too many tokens: size limit exceeded by 11326 tokens.";
  const body = Buffer.from(JSON.stringify({ message }));
  expect(readCohereError({ status: 400, header: () => undefined }, body, "co")).toMatchObject({
    code: "context_length_exceeded",
  });
});

test("usage that is told in half is unknown, and what is billed goes before what was read", () => {
  expect(readCohereUsage({ tokens: { input_tokens: 3 } })).toBeUndefined();
  const tokens = { input_tokens: 103, output_tokens: 4 };
  expect(readCohereUsage({ tokens })?.usage).toEqual({ input: 103, output: 4 });
  const billed_units = { input_tokens: 3, output_tokens: 4 };
  expect(readCohereUsage({ tokens, billed_units })?.usage).toEqual({ input: 3, output: 4 });
});

test("texts to embed keep what they are for, and ids of tokens are refused", () => {
  const asked = { model: "x", input: "one", dimensions: 256, user: "u", encoding_format: "base64" };
  expect(writeEmbedBody(asked, "embed-v4")).toEqual({
    body: {
      model: "embed-v4",
      texts: ["one"],
      input_type: "search_document",
      embedding_types: ["base64"],
      output_dimension: 256,
    },
    dropped: ["user"],
  });
  expect(() => writeEmbedBody({ input: [1, 2] }, "m")).toThrow(
    expect.objectContaining({ param: "input" }),
  );
});

const image = {
  type: "image" as const,
  source: { type: "base64" as const, mediaType: "image/png", data: "AAAA" },
};
const picture = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
const cited = {
  start: 2,
  end: 7,
  text: "hello",
  content_index: 2,
  type: "TEXT_CONTENT",
  sources: [{ type: "document", id: "doc-0", document: { url: "https://a.example", title: "A" } }],
};
