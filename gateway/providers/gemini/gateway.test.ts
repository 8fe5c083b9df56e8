/** OpenAI's client in front of Gemini, through the real gateway: everything between is translated. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type GeminiEmulator, startGeminiEmulator } from "../../../test/emulators/gemini.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const faults = ["status-429", "status-403", "status-400", "array", "html", "context"];
const cuts = ["cut-2", "end-2", "error-2", "bare-2"];
const usage = {
  promptTokenCount: 10,
  cachedContentTokenCount: 4,
  candidatesTokenCount: 5,
  thoughtsTokenCount: 2,
  totalTokenCount: 17,
};

let emulator: GeminiEmulator;
let served: TestGateway;
let client: OpenAI;

beforeAll(async () => {
  emulator = await startGeminiEmulator({
    apiKey: "key-of-google",
    answer({ body }) {
      if (!body.tools) return { parts: [{ text: "Hello, wörld 🦜 and all" }], usage };
      return {
        parts: [
          { text: "Let me see.", thought: true },
          { functionCall: { name: "look", args: { x: "ö" } }, thoughtSignature: "c2ln" },
          { functionCall: { name: "now" } },
        ],
        usage,
      };
    },
  });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: ["gemini", "blocked", ...faults, ...cuts].map((id) =>
        testModel(id, {
          upstream: "google",
          upstreamModel: id === "gemini" ? "gemini-3-pro" : `gemini-3-pro!${id}`,
        }),
      ),
    }),
    upstreams: [
      { name: "google", type: "gemini", baseUrl: emulator.baseUrl, apiKey: "key-of-google" },
    ],
    limits: { breakerFailures: 1000 },
  });
  client = new OpenAI({ apiKey, baseURL: `${served.url}/v1`, maxRetries: 0 });
});
afterAll(async () => {
  await served.close();
  await emulator.close();
});

const messages = [{ role: "user" as const, content: "two words" }];
const tools = ["look", "now"].map((name) => ({ type: "function" as const, function: { name } }));
const settledUsage = { input: 6, cache_read: 4, output: 5, reasoning: 2 };

test("a whole answer and a stream say the same, and what they used is settled", async () => {
  const answer = await client.chat.completions.create({ model: "gemini", messages });
  expect(answer.choices[0]).toMatchObject({
    message: { content: "Hello, wörld 🦜 and all" },
    finish_reason: "stop",
  });
  expect(answer.usage).toMatchObject({
    prompt_tokens: 10,
    completion_tokens: 7,
    prompt_tokens_details: { cached_tokens: 4 },
    completion_tokens_details: { reasoning_tokens: 2 },
  });
  expect(served.accounts.settled.at(-1)).toMatchObject({ usage: settledUsage, estimated: false });

  const stream = client.chat.completions.stream({ model: "gemini", messages });
  expect(await stream.finalContent()).toBe("Hello, wörld 🦜 and all");
  expect(served.accounts.settled.at(-1)).toMatchObject({
    usage: settledUsage,
    estimated: false,
    outcome: "ok",
    stream: true,
  });
  expect(emulator.requests.at(-1)).toMatchObject({ model: "gemini-3-pro", stream: true });
});

test("tools are called, and their results find the calls that they answer", async () => {
  const ask = { model: "gemini", messages, tools };
  const { message } = (await client.chat.completions.create(ask)).choices[0] ?? {};
  const streamed = await client.chat.completions.stream(ask).finalMessage();
  for (const said of [message, streamed]) {
    expect(said?.tool_calls).toMatchObject([
      { function: { name: "look", arguments: '{"x":"ö"}' } },
      { function: { name: "now", arguments: "{}" } },
    ]);
  }
  expect(message).toMatchObject({ reasoning_content: "Let me see." });
  const results = (streamed.tool_calls ?? []).map(({ id }, index) => ({
    role: "tool" as const,
    tool_call_id: id,
    content: `result ${index}`,
  }));
  await client.chat.completions.create({
    model: "gemini",
    messages: [...messages, streamed, ...results],
  });
  const [, calls, answers] = emulator.requests.at(-1)?.body.contents ?? [];
  expect(calls?.parts).toMatchObject([
    { functionCall: { name: "look", args: { x: "ö" } }, thoughtSignature: "c2ln" },
    { functionCall: { name: "now", args: {} } },
  ]);
  expect(answers?.parts).toMatchObject([
    { functionResponse: { name: "look", response: { output: "result 0" } } },
    { functionResponse: { name: "now", response: { output: "result 1" } } },
  ]);
});

test("a signature on a call comes back through the Responses API, whose calls have no place for it", async () => {
  const input = [{ role: "user" as const, content: "two words" }];
  const ask = {
    model: "gemini",
    input,
    tools: tools.map(({ type, function: { name } }) => ({
      type,
      name,
      parameters: {},
      strict: false,
    })),
  };
  const whole = await client.responses.create(ask);
  const streamed = await client.responses.stream(ask).finalResponse();
  for (const { output } of [whole, streamed]) {
    expect(output.map(({ type }) => type)).toEqual(["reasoning", "function_call", "function_call"]);
    const results = output.flatMap((item) =>
      item.type === "function_call"
        ? [{ type: "function_call_output" as const, call_id: item.call_id, output: "done" }]
        : [],
    );
    const sentBack = output as OpenAI.Responses.ResponseInputItem[];
    await client.responses.create({ model: "gemini", input: [...input, ...sentBack, ...results] });
    const [, calls] = emulator.requests.at(-1)?.body.contents ?? [];
    expect(calls?.parts).toEqual([
      { functionCall: expect.objectContaining({ name: "look" }), thoughtSignature: "c2ln" },
      { functionCall: expect.objectContaining({ name: "now" }) },
    ]);
  }
});

test("failures are told as OpenAI tells them", async () => {
  const fail = async (model: string) =>
    client.chat.completions.create({ model, messages }).catch((error: unknown) => error);
  const limited = (await fail("status-429")) as InstanceType<typeof OpenAI.APIError>;
  expect(limited).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
  expect(limited.headers?.get("retry-after")).toBe("7");
  expect(await fail("status-403")).toMatchObject({ status: 502, code: "upstream_auth_failed" });
  expect(await fail("status-400")).toMatchObject({ status: 400, code: "invalid_value" });
  expect(await fail("array")).toMatchObject({ status: 503, code: "upstream_unavailable" });
  expect(await fail("html")).toMatchObject({ status: 502, code: "upstream_error" });
  expect(await fail("context")).toMatchObject({ status: 400, code: "context_length_exceeded" });
});

test("a stream that breaks is told as broken, and what was relayed is settled", async () => {
  for (const model of cuts) {
    const before = served.accounts.settled.length;
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    let text = "";
    const read = async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    };
    await expect(read(), model).rejects.toThrow();
    expect(text, model).toBe("Hello, wörld");
    await served.accounts.untilSettled(before + 1);
    expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "upstream_failed" });
  }
});

test("what has no place at Gemini is told", async () => {
  const { response } = await client.chat.completions
    .create({ model: "gemini", messages, logit_bias: { "5": 1 }, user: "u" })
    .withResponse();
  expect(response.headers.get("x-switchyard-dropped")).toBe("logitBias, user");
});
