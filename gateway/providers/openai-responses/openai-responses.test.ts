/** An upstream that speaks the Responses API: its own clients pass, others are translated. */
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { SseParser } from "../../../sdk/protocol/sse.ts";
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
  testRoute,
  testSnapshot,
} from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const faults = ["cut", "error-event", "failed"];
const usage = {
  prompt_tokens: 20,
  completion_tokens: 9,
  total_tokens: 29,
  prompt_tokens_details: { cached_tokens: 8 },
  completion_tokens_details: { reasoning_tokens: 4 },
};
const everything: EmulatedAnswer = {
  content: "It rains. ",
  reasoning: "let me think",
  toolCalls: [{ id: "call_1", name: "weather", arguments: '{"city":"Paris"}' }],
  usage,
};

let emulator: OpenAiEmulator;
let served: TestGateway;
let says: EmulatedAnswer;
beforeAll(async () => {
  emulator = await startOpenAiEmulator({ answer: () => says });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        testModel("gpt-test"),
        ...faults.map((fault) => testModel(fault, { upstreamModel: `gpt-test!${fault}` })),
      ],
      routes: [testRoute("auto", "gpt-test")],
      prices: testPrices("gpt-test", { input: "0.00000015", output: "0.0000006" }),
    }),
    upstreams: [{ name: "emulated", type: "openai", api: "responses", baseUrl: emulator.baseUrl }],
    limits: { breakerFailures: 1000 },
  });
});
afterAll(async () => {
  await served.close();
  await emulator.close();
});
beforeEach(() => {
  says = everything;
});

const client = () => new OpenAI({ apiKey, baseURL: `${served.url}/v1`, maxRetries: 0 });
const direct = () => new OpenAI({ apiKey: "k", baseURL: emulator.baseUrl, maxRetries: 0 });
const sent = () => emulator.requests.at(-1)?.body;
const settled = { outcome: "ok", usage: { input: 12, cache_read: 8, output: 5, reasoning: 4 } };

test("the official client understands the emulator itself", async () => {
  const stream = direct().responses.stream({ model: "gpt-test", input: "Hi" });
  const streamed = await stream.finalResponse();
  const whole = await direct().responses.create({ model: "gpt-test", input: "Hi" });
  expect(streamed.output_text).toBe("It rains. ");
  expect(streamed.output.map(({ type }) => type)).toEqual(whole.output.map(({ type }) => type));
});

describe("its own dialect", () => {
  test("passes as it is, hosted tools and unknown fields included, and is metered", async () => {
    const asked = { model: "auto", input: "Hi", tools: [{ type: "web_search" }], novelty: 1 };
    const body = asked as OpenAI.Responses.ResponseCreateParamsNonStreaming;
    const whole = await client().responses.create(body);
    expect(sent()).toEqual({ ...asked, model: "gpt-test" });
    expect(whole.id).toMatch(/^resp_emulated_/);
    expect(served.accounts.settled.at(-1)).toMatchObject(settled);
    const streamed = await client()
      .responses.stream(body as never)
      .finalResponse();
    expect(streamed).toMatchObject({ output_text: "It rains. ", status: "completed" });
    expect(served.accounts.settled.at(-1)).toMatchObject({ ...settled, stream: true });
  });

  test("passes with items and choices that nobody else knows, pictures in them counted", async () => {
    const picture = { type: "input_image", image_url: "https://a/b.png" };
    const screen = { type: "computer_screenshot", image_url: "https://a/c.png" };
    const asked = {
      model: "gpt-test",
      input: [
        { role: "user", content: [{ type: "input_text", text: "Hi" }, picture] },
        { type: "web_search_call", id: "ws_1", status: "completed", action: { type: "search" } },
        { type: "computer_call_output", call_id: "c1", output: screen },
        { type: "item_reference", id: "msg_1" },
      ],
      tools: [{ type: "web_search" }],
      tool_choice: { type: "web_search" },
    };
    await client().responses.create(asked as never);
    expect(sent()).toEqual(asked);
    expect(served.accounts.reserved.at(-1)?.inputTokens).toBeGreaterThan(2 * 2048);
  });

  test.each(faults)("a stream that breaks (%s) ends with an error", async (model) => {
    const stream = await client().responses.create({ model, input: "Hi", stream: true });
    const reading = (async () => {
      for await (const _event of stream);
    })();
    await expect(reading).rejects.toThrow();
    await served.accounts.untilSettled(1);
    expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "upstream_failed" });
  });

  test.each(faults)("and what ends it (%s) goes on from what was said", async (model) => {
    const events = await eventsOf({ model, input: "Hi", instructions: "Be kind.", store: false });
    const numbers = events.map(({ sequence_number }) => sequence_number);
    expect(numbers).toEqual(numbers.map((_, index) => index));
    const [{ response: created } = {}] = events;
    const [error, failed] = events.slice(-2);
    const message = error?.message;
    const told = { code: "upstream_error", message, param: null };
    expect(error).toMatchObject({ type: "error", ...told, error: told });
    expect(failed).toMatchObject({
      type: "response.failed",
      response: {
        id: (created as { id: string }).id,
        created_at: 1_780_000_000,
        status: "failed",
        error: { code: "server_error", message },
        instructions: "Be kind.",
        store: false,
      },
    });
  });
});

/** Of a stream, as they came. */
async function eventsOf(body: object): Promise<Record<string, unknown>[]> {
  const response = await fetch(`${served.url}/v1/responses`, {
    method: "POST",
    headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
  });
  const parser = new SseParser();
  return parser
    .push(new Uint8Array(await response.arrayBuffer()))
    .map(({ data }) => JSON.parse(data));
}

describe("a chat", () => {
  test("is asked and answered in its own words, streamed or not", async () => {
    const asked = {
      model: "gpt-test",
      messages: [
        { role: "system" as const, content: "Be brief." },
        { role: "user" as const, content: "Weather?" },
        {
          role: "assistant" as const,
          content: null,
          tool_calls: [
            {
              id: "c".repeat(80),
              type: "function" as const,
              function: { name: "weather", arguments: "{}" },
            },
          ],
        },
        { role: "tool" as const, tool_call_id: "c".repeat(80), content: "sun" },
      ],
      tools: [{ type: "function" as const, function: { name: "weather" } }],
      max_completion_tokens: 4,
      seed: 5,
    };
    const { data, response } = await client().chat.completions.create(asked).withResponse();
    const [, call, result] = (sent()?.input ?? []) as { call_id: string }[];
    expect(call?.call_id).toHaveLength(45);
    expect(sent()).toMatchObject({
      instructions: "Be brief.",
      input: [
        { role: "user", content: [{ type: "input_text", text: "Weather?" }] },
        { type: "function_call", name: "weather", arguments: "{}" },
        { type: "function_call_output", call_id: call?.call_id, output: "sun" },
      ],
      tools: [{ type: "function", name: "weather", strict: false }],
      max_output_tokens: 16,
      store: false,
    });
    expect(result?.call_id).toBe(call?.call_id);
    expect(response.headers.get("x-switchyard-dropped")?.split(", ").sort()).toEqual([
      "outputTokensMax",
      "seed",
    ]);
    const message = {
      content: "It rains. ",
      reasoning_content: "let me think",
      tool_calls: [{ id: "call_1", function: { name: "weather", arguments: '{"city":"Paris"}' } }],
    };
    expect(data.choices[0]).toMatchObject({ finish_reason: "tool_calls", message });
    expect(data.usage).toMatchObject(usage);
    expect(served.accounts.settled.at(-1)).toMatchObject(settled);
    const streamed = await client()
      .chat.completions.stream({ ...asked, stream_options: { include_usage: true } })
      .finalChatCompletion();
    expect(streamed.choices[0]).toMatchObject({ finish_reason: "tool_calls", message });
    expect(streamed.usage).toMatchObject(usage);
  });

  test("that was cut off, or that asks for what it lacks, is told so", async () => {
    says = { content: "Once", finish: "length", usage };
    const ask = (more: object) =>
      client().chat.completions.create({
        model: "gpt-test",
        messages: [{ role: "user", content: "Hi" }],
        ...more,
      });
    expect((await ask({})).choices[0]?.finish_reason).toBe("length");
    await expect(ask({ stop: ["x"] })).rejects.toMatchObject({ status: 400, param: "stop" });
    await expect(ask({ n: 2 })).rejects.toMatchObject({ status: 400, param: "n" });
  });
});
