/** Anthropic behind the real gateway: its own client in front, whose bytes pass, and OpenAI's, which is translated. */
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type AnthropicEmulator,
  type EmulatedMessage,
  type MessagesRequest,
  startAnthropicEmulator,
} from "../../../test/emulators/anthropic.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testSnapshot,
} from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const faults = ["overloaded", "rate-limit", "too-long", "status:403", "html", "error-200", "reset"];
const cuts = ["cut:5", "end:5", "error-event:5", "error-event:1", "split", "crlf"];
const usage = {
  input_tokens: 10,
  cache_read_input_tokens: 4,
  cache_creation_input_tokens: 3,
  output_tokens: 7,
  output_tokens_details: { thinking_tokens: 2 },
};
const settledUsage = { input: 10, cache_read: 4, cache_write: 3, output: 5, reasoning: 2 };
const thoughts = [
  { type: "thinking", thinking: "Let me see.", signature: "c2lnbmVk" },
  { type: "redacted_thinking", data: "aGlkZGVu" },
];

let emulator: AnthropicEmulator;
let served: TestGateway;
let anthropic: Anthropic;
let openai: OpenAI;

function answer(request: MessagesRequest): EmulatedMessage {
  const results = request.messages.some(({ content }) =>
    Array.isArray(content) ? content.some(({ type }) => type === "tool_result") : false,
  );
  if (!request.tools || results) {
    return { content: [{ type: "text", text: "Hello, wörld 🦜 and all" }], usage };
  }
  return {
    content: [
      ...thoughts,
      { type: "text", text: "I look." },
      { type: "tool_use", id: "toolu_1", name: "look", input: { x: "ö" } },
      { type: "tool_use", id: "toolu_2", name: "now", input: {} },
    ],
    usage,
  };
}

beforeAll(async () => {
  emulator = await startAnthropicEmulator({ apiKey: "key-of-anthropic", answer });
  const idOf = (fault: string) => fault.replace(":", "-");
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        testModel("claude", {
          upstream: "anthropic",
          upstreamModel: "claude-opus-4-8",
          contextLength: 200_000,
          maxOutputTokens: 64_000,
        }),
        testModel("claude-4-5", { upstream: "anthropic", upstreamModel: "claude-sonnet-4-5" }),
        ...[...faults, ...cuts].map((fault) =>
          testModel(idOf(fault), { upstream: "anthropic", upstreamModel: `claude!${fault}` }),
        ),
      ],
      prices: testPrices("claude", { input: "0.000003", output: "0.000015" }),
    }),
    upstreams: [
      {
        name: "anthropic",
        type: "anthropic",
        baseUrl: emulator.baseUrl,
        apiKey: "key-of-anthropic",
      },
    ],
    limits: { breakerFailures: 1000 },
  });
  anthropic = new Anthropic({ apiKey, baseURL: served.url, maxRetries: 0 });
  openai = new OpenAI({ apiKey, baseURL: `${served.url}/v1`, maxRetries: 0 });
});
afterAll(async () => {
  await served.close();
  await emulator.close();
});

const messages = [{ role: "user" as const, content: "two words" }];
const ask = { model: "claude", max_tokens: 100, messages };
const settled = () => served.accounts.settled.at(-1);

test("a message passes as it is, and so do its stream, its headers and its beta features", async () => {
  const { data, response } = await anthropic.messages
    .create({ ...ask, context_management: { edits: [] } } as never, {
      headers: { "anthropic-beta": "some-2026-01-01" },
    })
    .withResponse();
  expect(data).toMatchObject({ content: [{ text: "Hello, wörld 🦜 and all" }], usage });
  expect(response.headers.get("request-id")).toMatch(/^req_/);
  expect(response.headers.get("x-switchyard-dropped")).toBeNull();
  const { headers, body } = emulator.requests.at(-1) ?? {};
  expect(headers).toMatchObject({
    "x-api-key": "key-of-anthropic",
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "some-2026-01-01",
  });
  expect(headers?.authorization).toBeUndefined();
  expect(body).toEqual({ ...ask, model: "claude-opus-4-8", context_management: { edits: [] } });
  expect(settled()).toMatchObject({ usage: settledUsage, estimated: false, outcome: "ok" });

  for (const model of ["claude", "split", "crlf"]) {
    const streamed = await anthropic.messages.stream({ ...ask, model }).finalMessage();
    expect(streamed).toMatchObject({ content: [{ text: "Hello, wörld 🦜 and all" }], usage });
    expect(settled()).toMatchObject({ usage: settledUsage, estimated: false, stream: true });
  }
});

test("OpenAI's client gets the same answer, whole and streamed", async () => {
  const asked = { model: "claude", messages };
  const whole = await openai.chat.completions.create(asked);
  expect(whole.choices[0]).toMatchObject({
    message: { content: "Hello, wörld 🦜 and all" },
    finish_reason: "stop",
  });
  expect(whole.usage).toMatchObject({
    prompt_tokens: 17,
    completion_tokens: 7,
    total_tokens: 24,
    prompt_tokens_details: { cached_tokens: 4, cache_write_tokens: 3 },
    completion_tokens_details: { reasoning_tokens: 2 },
  });
  expect(settled()).toMatchObject({ usage: settledUsage, estimated: false });
  // Nobody named a most, and Anthropic wants one.
  expect(emulator.requests.at(-1)?.body).toMatchObject({ max_tokens: 64_000 });
  const stream = openai.chat.completions.stream(asked);
  expect(await stream.finalContent()).toBe("Hello, wörld 🦜 and all");
  expect(settled()).toMatchObject({ usage: settledUsage, estimated: false, stream: true });
});

test("OpenAI's client calls tools there, and its results come back in Anthropic's order", async () => {
  const tools = ["look", "now"].map((name) => ({ type: "function" as const, function: { name } }));
  const asked = {
    model: "claude",
    messages: [{ role: "developer" as const, content: "Be brief." }, ...messages],
    tools,
    parallel_tool_calls: true,
    reasoning_effort: "high" as const,
    temperature: 0.5,
    seed: 7,
  };
  const { data, response } = await openai.chat.completions.create(asked).withResponse();
  expect(response.headers.get("x-switchyard-dropped")).toBe("temperature, seed");
  expect(emulator.requests.at(-1)?.body).toMatchObject({
    thinking: { type: "adaptive" },
    output_config: { effort: "high" },
    system: [{ type: "text", text: "Be brief." }],
    tools: [{ name: "look", input_schema: { type: "object", properties: {} } }, { name: "now" }],
  });
  const streamed = await openai.chat.completions.stream(asked).finalMessage();
  expect(data.choices[0]?.message).toMatchObject({ reasoning_content: "Let me see." });
  for (const said of [data.choices[0]?.message, streamed]) {
    expect(said).toMatchObject({ content: "I look." });
    expect(said?.tool_calls).toMatchObject([
      { id: "toolu_1", function: { name: "look", arguments: '{"x":"ö"}' } },
      { id: "toolu_2", function: { name: "now", arguments: "{}" } },
    ]);
  }
  const results = (streamed.tool_calls ?? []).map(({ id }, index) => ({
    role: "tool" as const,
    tool_call_id: id,
    content: `result ${index}`,
  }));
  const history = [...messages, streamed, ...results, { role: "user" as const, content: "So?" }];
  const last = await openai.chat.completions.create({ model: "claude", messages: history, tools });
  expect(last.choices[0]?.message.content).toBe("Hello, wörld 🦜 and all");
  expect(emulator.requests.at(-1)?.body.messages.slice(1)).toMatchObject([
    {
      role: "assistant",
      content: [
        { type: "thinking", thinking: "Let me see.", signature: "c2lnbmVk" },
        { type: "redacted_thinking", data: "aGlkZGVu" },
        { type: "text" },
        { id: "toolu_1" },
        { id: "toolu_2" },
      ],
    },
    {
      role: "user",
      content: [
        { type: "tool_result", tool_use_id: "toolu_1", content: [{ text: "result 0" }] },
        { type: "tool_result", tool_use_id: "toolu_2" },
        { type: "text", text: "So?" },
      ],
    },
  ]);
});

test("a client of responses gives Claude its own thoughts back, which it insists on", async () => {
  const tools = ["look", "now"].map((name) => ({
    type: "function" as const,
    name,
    strict: false,
    parameters: { type: "object", properties: {} },
  }));
  const asked = { model: "claude-4-5", tools, reasoning: { effort: "low" as const }, store: false };
  const question = { role: "user" as const, content: "two words" };
  const first = await openai.responses.create({ ...asked, input: [question] });
  expect(first.output).toMatchObject([
    {
      type: "reasoning",
      summary: [{ text: "Let me see." }],
      encrypted_content: "signature:anthropic:c2lnbmVk",
    },
    { type: "reasoning", encrypted_content: "encrypted:anthropic:aGlkZGVu" },
    { type: "message" },
    { type: "function_call", name: "look" },
    { type: "function_call", name: "now" },
  ]);
  const results = first.output.flatMap((item) =>
    item.type === "function_call"
      ? [{ type: "function_call_output" as const, call_id: item.call_id, output: "ok" }]
      : [],
  );
  const input = [question, ...first.output, ...results] as OpenAI.Responses.ResponseInput;
  const last = await openai.responses.create({ ...asked, input });
  expect(last.output_text).toBe("Hello, wörld 🦜 and all");
  const sent = emulator.requests.at(-1)?.body;
  expect(sent?.thinking).toEqual({ type: "enabled", budget_tokens: 2048 });
  expect(sent?.messages[1]?.content.slice(0, 2)).toEqual(thoughts);
});

test("failures are told to each client as it should act on them", async () => {
  const cases = [
    ["overloaded", 529, "overloaded_error", 503, "upstream_unavailable"],
    ["rate-limit", 429, "rate_limit_error", 429, "rate_limit_exceeded"],
    ["too-long", 400, "invalid_request_error", 400, "context_length_exceeded"],
    ["status-403", 500, "api_error", 502, "upstream_auth_failed"],
    ["html", 500, "api_error", 502, "upstream_error"],
    ["error-200", 500, "api_error", 502, "upstream_error"],
    ["reset", 500, "api_error", 502, "upstream_error"],
  ] as const;
  for (const [model, status, type, openAiStatus, code] of cases) {
    const own = await failureOf(() => anthropic.messages.create({ ...ask, model }));
    expect(own, model).toBeInstanceOf(Anthropic.APIError);
    expect(own, model).toMatchObject({ status, type, errorCode: code });
    expect(own.requestID, model).toMatch(/^req_/);
    const other = await failureOf(() => openai.chat.completions.create({ model, messages }));
    expect(other, model).toMatchObject({ status: openAiStatus, code });
  }
  const limited = await failureOf(() => anthropic.messages.create({ ...ask, model: "rate-limit" }));
  expect(limited.headers.get("retry-after")).toBe("7");
});

test("a stream that breaks ends with an error, and before the first word the status tells it", async () => {
  for (const model of ["cut-5", "end-5", "error-event-5"]) {
    const own = await failureOf(() => anthropic.messages.stream({ ...ask, model }).finalMessage());
    expect(own, model).toMatchObject({
      status: undefined,
      type: model === "error-event-5" ? "overloaded_error" : "api_error",
    });
    expect(settled(), model).toMatchObject({ outcome: "upstream_failed", stream: true });
    const stream = openai.chat.completions.stream({ model, messages });
    const other = await failureOf(() => stream.finalMessage());
    expect(other, model).toBeInstanceOf(OpenAI.APIError);
  }
  const early = { ...ask, model: "error-event-1" };
  const own = await failureOf(() => anthropic.messages.stream(early).finalMessage());
  expect(own).toMatchObject({ status: 529, type: "overloaded_error" });
});

test("tokens are counted by Anthropic itself", async () => {
  const { data, response } = await anthropic.messages
    .countTokens({ model: "claude", messages, system: "Be brief." })
    .withResponse();
  expect(data.input_tokens).toBe(4);
  expect(response.headers.get("x-switchyard-counted-by")).toBe("provider");
});

test("thoughts of another provider stay behind", async () => {
  const history = [
    ...messages,
    {
      role: "assistant" as const,
      content: [
        { type: "thinking" as const, thinking: "Hm.", signature: "" },
        { type: "thinking" as const, thinking: "Hm.", signature: "google:abc" },
        { type: "thinking" as const, thinking: "Own.", signature: "c2lnbmVk" },
        { type: "text" as const, text: "Hi." },
      ],
    },
    ...messages,
  ];
  const { response } = await anthropic.messages
    .create({ ...ask, messages: history })
    .withResponse();
  expect(response.headers.get("x-switchyard-dropped")).toBe("messages.thinking");
  expect(emulator.requests.at(-1)?.body.messages[1]?.content).toEqual([
    { type: "thinking", thinking: "Own.", signature: "c2lnbmVk" },
    { type: "text", text: "Hi." },
  ]);
});

// biome-ignore lint/suspicious/noExplicitAny: whatever a client throws
async function failureOf(call: () => Promise<unknown>): Promise<any> {
  return call().then(
    () => expect.unreachable(),
    (error: unknown) => error,
  );
}
