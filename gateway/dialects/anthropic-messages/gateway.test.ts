/** Anthropic's own client in front of what speaks OpenAI's chat completions, through the real gateway. */
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type EmulatedAnswer,
  type EmulatedRequest,
  type OpenAiEmulator,
  startOpenAiEmulator,
} from "../../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import {
  testAdapter,
  testBase,
  testKey,
  testModel,
  testProject,
  testSnapshot,
} from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const faults = [
  "status:429",
  "status:500",
  "context",
  "no-quota",
  "cut:4",
  "error-event:4",
  "end:4",
];
const usage = {
  prompt_tokens: 14,
  completion_tokens: 9,
  total_tokens: 23,
  prompt_tokens_details: { cached_tokens: 4 },
  completion_tokens_details: { reasoning_tokens: 2 },
};
const settledUsage = { input: 10, cache_read: 4, output: 7, reasoning: 2 };

let emulator: OpenAiEmulator;
let served: TestGateway;
let client: Anthropic;
let say: (request: EmulatedRequest) => string | EmulatedAnswer;

beforeAll(async () => {
  emulator = await startOpenAiEmulator({ answer: (request) => say(request) });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        testModel("gpt", { contextLength: 1000, maxOutputTokens: 500 }),
        testModel("org/base", { base: testBase, tokenizer: "o200k_base" }),
        ...faults.map((fault) =>
          testModel(fault.replace(":", "-"), { upstreamModel: `gpt!${fault}` }),
        ),
      ],
      adapters: [testAdapter("org/base", "tone", acme, ["tone 1"])],
    }),
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    limits: { breakerFailures: 1000 },
  });
  client = new Anthropic({ apiKey, baseURL: served.url, maxRetries: 0 });
});
afterAll(async () => {
  await served.close();
  await emulator.close();
});

const messages = [{ role: "user" as const, content: "two words" }];
const ask = { model: "gpt", max_tokens: 100, messages };
const settled = () => served.accounts.settled.at(-1);

test("a whole message and a stream of it say the same, and what they used is settled", async () => {
  say = () => ({ content: "Hello, wörld 🦜", reasoning: "Let me see.", usage });
  const whole = await client.messages.create(ask);
  expect(whole).toMatchObject({
    id: expect.stringMatching(/^msg_/),
    type: "message",
    role: "assistant",
    model: "gpt",
    content: [
      { type: "thinking", thinking: "Let me see.", signature: "" },
      { type: "text", text: "Hello, wörld 🦜" },
    ],
    stop_reason: "end_turn",
    stop_sequence: null,
    usage: {
      input_tokens: 10,
      cache_read_input_tokens: 4,
      output_tokens: 9,
      output_tokens_details: { thinking_tokens: 2 },
    },
  });
  expect(settled()).toMatchObject({ usage: settledUsage, estimated: false });

  const events: string[] = [];
  const stream = client.messages.stream(ask);
  stream.on("streamEvent", ({ type }) => void events.push(type));
  const streamed = await stream.finalMessage();
  expect(streamed).toMatchObject({ content: whole.content, stop_reason: "end_turn" });
  expect(streamed.usage).toMatchObject({
    input_tokens: 10,
    cache_read_input_tokens: 4,
    output_tokens: 9,
  });
  expect(settled()).toMatchObject({ usage: settledUsage, estimated: false, stream: true });
  expect(events.filter((type) => type !== "content_block_delta")).toEqual([
    "message_start",
    "content_block_start",
    "content_block_stop",
    "content_block_start",
    "content_block_stop",
    "message_delta",
    "message_stop",
  ]);
});

test("an agent's loop: tools are called, at once or one by one, until there is an answer", async () => {
  const tools: Anthropic.Tool[] = ["Read", "Now"].map((name) => ({
    name,
    description: `What ${name} does`,
    input_schema: { type: "object", properties: { path: { type: "string" } } },
    cache_control: { type: "ephemeral" },
  }));
  say = ({ messages: asked }) =>
    asked.some(({ role }) => role === "tool")
      ? { content: "It is a cat.", usage }
      : {
          content: "I look.",
          toolCalls: [
            { id: "call_1", name: "Read", arguments: '{"path":"/ö"}' },
            { id: "call_2", name: "Now", arguments: "" },
          ],
          usage,
        };
  const history: Anthropic.MessageParam[] = [...messages];
  const turn = async () => {
    const stream = client.messages.stream({
      ...ask,
      system: [{ type: "text", text: "You are an agent.", cache_control: { type: "ephemeral" } }],
      messages: history,
      tools,
      thinking: { type: "adaptive" },
      output_config: { effort: "high" },
      metadata: { user_id: `user_${"a".repeat(200)}` },
    });
    const message = await stream.finalMessage();
    const { response } = await stream.withResponse();
    history.push({ role: "assistant", content: message.content });
    return { message, dropped: response.headers.get("x-switchyard-dropped") };
  };
  const first = await turn();
  expect(first.message).toMatchObject({
    stop_reason: "tool_use",
    content: [
      { type: "text", text: "I look." },
      { type: "tool_use", id: "call_1", name: "Read", input: { path: "/ö" } },
      { type: "tool_use", id: "call_2", name: "Now", input: {} },
    ],
  });
  expect(first.dropped).toBe("cache_control");
  expect(emulator.requests.at(-1)?.body).toMatchObject({
    model: "gpt",
    messages: [
      { role: "system", content: "You are an agent." },
      { role: "user", content: "two words" },
    ],
    tools: [{ type: "function", function: { name: "Read", description: "What Read does" } }, {}],
    reasoning_effort: "high",
    max_completion_tokens: 100,
    user: expect.stringMatching(/^[0-9a-f]{64}$/),
  });

  history.push({
    role: "user",
    content: [
      { type: "tool_result", tool_use_id: "call_1", content: [{ type: "text", text: "A cat." }] },
      { type: "tool_result", tool_use_id: "call_2", content: "late", is_error: true },
      { type: "text", text: "Go on." },
    ],
  });
  const second = await turn();
  expect(second.message).toMatchObject({
    stop_reason: "end_turn",
    content: [{ type: "text", text: "It is a cat." }],
  });
  expect(emulator.requests.at(-1)?.body.messages.slice(2)).toMatchObject([
    {
      role: "assistant",
      content: "I look.",
      tool_calls: [
        { id: "call_1", function: { name: "Read", arguments: '{"path":"/ö"}' } },
        { id: "call_2", function: { name: "Now", arguments: "{}" } },
      ],
    },
    { role: "tool", tool_call_id: "call_1", content: "A cat." },
    { role: "tool", tool_call_id: "call_2", content: "Error: late" },
    { role: "user", content: "Go on." },
  ]);
});

test("failures have Anthropic's statuses, types and envelope", async () => {
  say = () => "one two three four five six seven";
  const cases: [object, object][] = [
    [{ model: "gpt-nope" }, { status: 404, type: "not_found_error", errorCode: "model_not_found" }],
    [{ max_tokens: undefined }, { status: 400, type: "invalid_request_error" }],
    [{ messages: [] }, { status: 400, type: "invalid_request_error" }],
    [{ model: "status-429" }, { status: 429, type: "rate_limit_error" }],
    [{ model: "status-500" }, { status: 500, type: "api_error" }],
    [{ model: "no-quota" }, { status: 529, type: "overloaded_error" }],
    [{ model: "context" }, { status: 400, errorCode: "context_length_exceeded" }],
    [
      { mcp_servers: [{ type: "url", url: "https://a", name: "a" }] },
      { status: 400, errorCode: "unsupported_parameter", details: { param: "mcp_servers" } },
    ],
    [
      { tools: [{ type: "web_search_20250305", name: "web_search" }] },
      { status: 400, errorCode: "unsupported_parameter" },
    ],
    [
      { messages: [{ role: "user", content: [{ type: "hologram" }] }] },
      { status: 400, details: { param: "messages[0].content[0]" } },
    ],
  ];
  for (const [fields, facts] of cases) {
    const failed = await failureOf(() => client.messages.create({ ...ask, ...fields } as never));
    expect(failed, JSON.stringify(fields)).toMatchObject(facts);
    expect(failed.error).toMatchObject({ type: "error", request_id: failed.requestID });
  }
  const stranger = new Anthropic({ apiKey: "sk-wrong", baseURL: served.url, maxRetries: 0 });
  const refused = await failureOf(() => stranger.messages.create(ask));
  expect(refused).toMatchObject({ status: 401, type: "authentication_error" });
  for (const model of ["cut-4", "error-event-4", "end-4"]) {
    const broken = client.messages.stream({ ...ask, model });
    const failed = await failureOf(() => broken.finalMessage());
    expect(failed, model).toMatchObject({ status: undefined, type: "api_error" });
    expect(settled(), model).toMatchObject({ outcome: "upstream_failed" });
  }
});

test("the key may come as Anthropic's header, and a version that nobody speaks is refused", async () => {
  say = () => "Hi";
  const post = (headers: Record<string, string>, path = "/v1/messages") =>
    fetch(served.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": apiKey, ...headers },
      body: JSON.stringify(ask),
    });
  expect((await post({})).status).toBe(200);
  expect((await post({ "anthropic-version": "2023-06-01" }, "/v1/messages?beta=true")).status).toBe(
    200,
  );
  const old = await post({ "anthropic-version": "2023-01-01" });
  expect(old.status).toBe(400);
  expect(await old.json()).toMatchObject({
    type: "error",
    error: { type: "invalid_request_error" },
  });
  const lost = await post({}, "/v1/messages/nowhere");
  expect(lost.status).toBe(404);
  expect(await lost.json()).toMatchObject({ type: "error", error: { type: "not_found_error" } });
});

test("tokens are counted with the model's tokenizer, and with a margin where that is not known", async () => {
  const counted = async (model: string) => {
    const { data, response } = await client.messages
      .countTokens({ model, messages, system: "Be brief." })
      .withResponse();
    return { tokens: data.input_tokens, by: response.headers.get("x-switchyard-counted-by") };
  };
  const known = await counted("org/base");
  expect(known.by).toBe("tokenizer");
  const guessed = await counted("gpt");
  expect(guessed.by).toBe("foreign-tokenizer");
  expect(guessed.tokens).toBeGreaterThanOrEqual(known.tokens);
  expect((await failureOf(() => counted("nope"))).status).toBe(404);
});

test("models are listed page by page, and found by any name, as Anthropic has them", async () => {
  const listed: Anthropic.ModelInfo[] = [];
  for await (const info of client.models.list({ limit: 2 })) listed.push(info);
  expect(listed.map(({ id }) => id)).toEqual(
    expect.arrayContaining(["gpt", "org/base", "org/base:tone"]),
  );
  expect(listed.find(({ id }) => id === "gpt")).toMatchObject({
    type: "model",
    max_input_tokens: 1000,
    max_tokens: 500,
    lifecycle: "active",
  });
  const found = await client.models.retrieve("org/base:tone@champion");
  expect(found).toMatchObject({ id: "org/base:tone@champion", type: "model" });
  expect(await failureOf(() => client.models.retrieve("nope"))).toMatchObject({ status: 404 });
  const plain = await fetch(`${served.url}/v1/models`, {
    headers: { authorization: `Bearer ${apiKey}` },
  });
  expect(await plain.json()).toMatchObject({ object: "list" });
});

test("names of unknown fields are told, whatever characters they have", async () => {
  say = () => "Hi";
  const { response } = await client.messages
    .create({ ...ask, "a\nb": 1, wörld: 2, ["x".repeat(500)]: 3 } as never)
    .withResponse();
  expect(response.headers.get("x-switchyard-dropped")).toBe(`a?b, w?rld, ${"x".repeat(64)}`);
});

// biome-ignore lint/suspicious/noExplicitAny: whatever a client throws
async function failureOf(call: () => Promise<unknown>): Promise<any> {
  return call().then(
    () => expect.unreachable(),
    (error: unknown) => error,
  );
}
