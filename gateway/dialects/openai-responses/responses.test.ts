/** The Responses API in front of an upstream that speaks chat completions, by official clients of two ages. */
import OpenAI from "openai";
import OpenAI6 from "openai-v6";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  type EmulatedAnswer,
  type OpenAiEmulator,
  startOpenAiEmulator,
} from "../../../test/emulators/openai.ts";
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
const policy = testSnapshot({
  projects: [acme],
  keys: [testKey(apiKey, { projectId: acme.id })],
  models: [
    testModel("gpt-test"),
    testModel("breaks", { upstreamModel: "gpt-test!error-event:3" }),
    testModel("refuses", { upstreamModel: "gpt-test!context" }),
  ],
  prices: testPrices("gpt-test", { input: "0.00000015", output: "0.0000006" }),
});

let emulator: OpenAiEmulator;
let served: TestGateway;
let says: EmulatedAnswer;
const usage = {
  prompt_tokens: 20,
  completion_tokens: 9,
  total_tokens: 29,
  prompt_tokens_details: { cached_tokens: 8 },
  completion_tokens_details: { reasoning_tokens: 4 },
};

beforeAll(async () => {
  emulator = await startOpenAiEmulator({ answer: () => says });
  served = await startTestGateway({
    snapshot: policy,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
  });
});
afterAll(async () => {
  await served.close();
  await emulator.close();
});
beforeEach(() => {
  says = { content: "Hello there.", usage };
});

const settings = () => ({ apiKey, baseURL: `${served.url}/v1`, maxRetries: 0 });
const weather = {
  type: "function" as const,
  name: "weather",
  description: "Tells the weather.",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: false,
};
const sent = () => emulator.requests.at(-1)?.body;

describe.each([
  ["openai 7", OpenAI],
  ["openai 6", OpenAI6 as unknown as typeof OpenAI],
])("%s", (_, Client) => {
  const client = () => new Client(settings());

  test("a text is answered, with everything a response has", async () => {
    const response = await client().responses.create({
      model: "gpt-test",
      instructions: "Be kind.",
      input: "Hi",
      max_output_tokens: 64,
      temperature: 0.5,
      metadata: { task: "greeting" },
    });
    expect(response.output_text).toBe("Hello there.");
    expect(response).toMatchObject({
      id: expect.stringMatching(/^resp_/),
      object: "response",
      status: "completed",
      error: null,
      incomplete_details: null,
      instructions: "Be kind.",
      model: "gpt-test",
      temperature: 0.5,
      tools: [],
      usage: {
        input_tokens: 20,
        input_tokens_details: { cached_tokens: 8 },
        output_tokens: 9,
        output_tokens_details: { reasoning_tokens: 4 },
        total_tokens: 29,
      },
    });
    expect(sent()).toEqual({
      model: "gpt-test",
      messages: [
        { role: "system", content: "Be kind." },
        { role: "user", content: "Hi" },
      ],
      max_completion_tokens: 64,
      temperature: 0.5,
    });
    const settlement = served.accounts.settled.at(-1);
    expect(settlement).toMatchObject({
      outcome: "ok",
      usage: { input: 12, cache_read: 8, output: 5, reasoning: 4 },
      task: "greeting",
    });
  });

  test("a stream is gathered by the client into the same response", async () => {
    says = {
      content: "It rains. ",
      reasoning: "let me think",
      toolCalls: [
        { id: "call_1", name: "weather", arguments: '{"city":"Paris"}' },
        { id: "call_2", name: "weather", arguments: "" },
      ],
      usage,
    };
    const stream = client().responses.stream({ model: "gpt-test", input: "Hi", tools: [weather] });
    const types: string[] = [];
    const numbers: number[] = [];
    for await (const event of stream) {
      if (types.at(-1) !== event.type) types.push(event.type);
      numbers.push(event.sequence_number);
    }
    const response = await stream.finalResponse();
    expect(numbers).toEqual(numbers.map((_number, index) => index));
    expect(types).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.reasoning_summary_part.added",
      "response.reasoning_summary_text.delta",
      "response.reasoning_summary_text.done",
      "response.reasoning_summary_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.output_item.added",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.completed",
    ]);
    expect(response.output_text).toBe("It rains. ");
    expect(response.output).toMatchObject([
      { type: "reasoning", summary: [{ type: "summary_text", text: "let me think" }] },
      { type: "message", status: "completed" },
      { type: "function_call", call_id: "call_1", name: "weather", arguments: '{"city":"Paris"}' },
      { type: "function_call", call_id: "call_2", name: "weather", arguments: "{}" },
    ]);
    expect(response.usage?.total_tokens).toBe(29);
  });

  test("an answer that was cut off is incomplete, one that broke is told as an error", async () => {
    says = { content: "Once upon", finish: "length", usage };
    const cut = await client().responses.create({ model: "gpt-test", input: "Hi" });
    expect(cut).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
    });
    const broken = await client().responses.create({ model: "breaks", input: "Hi", stream: true });
    const reading = (async () => {
      for await (const _event of broken);
    })();
    await expect(reading).rejects.toThrow(/broke off the answer: overloaded/);
    await expect(
      client().responses.create({ model: "refuses", input: "Hi" }),
    ).rejects.toMatchObject({ status: 400, code: "context_length_exceeded" });
  });
});

test("a conversation with tools, pictures and thoughts arrives as a chat", async () => {
  await new OpenAI(settings()).responses.create({
    model: "gpt-test",
    input: [
      { role: "developer", content: "Short answers." },
      {
        role: "user",
        content: [
          { type: "input_text", text: "Where is this?" },
          { type: "input_image", image_url: "https://example.com/a.png", detail: "low" },
        ],
      },
      { type: "reasoning", id: "rs_1", summary: [{ type: "summary_text", text: "hm" }] },
      { type: "function_call", call_id: "c1", name: "weather", arguments: '{"city":"Rome"}' },
      { type: "function_call", call_id: "c2", name: "weather", arguments: "{}" },
      { type: "function_call_output", call_id: "c1", output: "sun" },
      {
        type: "function_call_output",
        call_id: "c2",
        output: [
          { type: "input_text", text: "see" },
          { type: "input_image", image_url: "data:image/png;base64,AAAA", detail: "auto" },
        ],
      },
    ],
    tools: [weather],
    tool_choice: { type: "function", name: "weather" },
    text: {
      format: { type: "json_schema", name: "place", schema: { type: "object" }, strict: true },
    },
    reasoning: { effort: "low" },
  });
  const { type: _type, ...shown } = weather;
  const call = (id: string, input: string) => ({
    id,
    type: "function",
    function: { name: "weather", arguments: input },
  });
  expect(sent()).toEqual({
    model: "gpt-test",
    messages: [
      { role: "system", content: "Short answers." },
      {
        role: "user",
        content: [
          { type: "text", text: "Where is this?" },
          { type: "image_url", image_url: { url: "https://example.com/a.png", detail: "low" } },
        ],
      },
      {
        role: "assistant",
        content: null,
        tool_calls: [call("c1", '{"city":"Rome"}'), call("c2", "{}")],
      },
      { role: "tool", tool_call_id: "c1", content: "sun" },
      { role: "tool", tool_call_id: "c2", content: "see" },
      {
        role: "user",
        content: [
          { type: "image_url", image_url: { url: "data:image/png;base64,AAAA", detail: "auto" } },
        ],
      },
    ],
    tools: [{ type: "function", function: shown }],
    tool_choice: { type: "function", function: { name: "weather" } },
    response_format: {
      type: "json_schema",
      json_schema: { name: "place", schema: { type: "object" }, strict: true },
    },
    reasoning_effort: "low",
  });
});

test("what is wrong is named, and so is what the provider has no place for", async () => {
  const post = async (body: object) => {
    const response = await fetch(`${served.url}/v1/responses`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt-test", ...body }),
    });
    return { dropped: response.headers.get("x-switchyard-dropped"), body: await response.json() };
  };
  const error = async (body: object) => (await post(body)).body;
  expect(await error({ input: [{ type: "teleport" }] })).toMatchObject({
    error: { code: "invalid_value", param: "input[0]" },
  });
  expect(await error({ input: [{ type: "function_call", call_id: "c" }] })).toMatchObject({
    error: { param: "input[0].name" },
  });
  expect(await error({ input: "Hi", max_output_tokens: 1 })).toMatchObject({
    error: { code: "number_out_of_range", param: "max_output_tokens" },
  });
  expect(await error({ input: "Hi", tools: [{ type: "web_search" }] })).toMatchObject({
    error: { code: "unsupported_parameter", param: "tools" },
  });
  const { dropped } = await post({ input: "Hi", truncation: "auto", service_tier: "flex" });
  expect(dropped).toBe("truncation");
});
