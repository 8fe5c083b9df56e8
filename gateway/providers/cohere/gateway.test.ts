/** OpenAI's client in front of Cohere, through the real gateway. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CohereEmulator, startCohereEmulator } from "../../../test/emulators/cohere.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const faults = ["status-429", "status-401", "status-498", "status-404", "status-503"];
const cuts = ["cut-5", "end-5", "error-5"];
const messages = [{ role: "user" as const, content: "two words" }];
const usage = {
  billed_units: { input_tokens: 10, output_tokens: 7 },
  tokens: { input_tokens: 90, output_tokens: 7 },
  cached_tokens: 4,
};
const settledUsage = { input: 6, cache_read: 4, output: 7 };

let emulator: CohereEmulator;
let served: TestGateway;
let client: OpenAI;

beforeAll(async () => {
  emulator = await startCohereEmulator({
    apiKey: "key-of-cohere",
    answer({ tools }) {
      if (!tools) return { content: [{ type: "text", text: "Hello, wörld 🦜 and all" }], usage };
      const call = (id: string, name: string, text: string) => ({
        id,
        type: "function" as const,
        function: { name, arguments: text },
      });
      return {
        tool_plan: "I will look.",
        tool_calls: [call("look_1", "look", '{"x":"ö"}'), call("now_1", "now", "{}")],
        usage,
      };
    },
  });
  const model = (id: string) =>
    testModel(id, { upstream: "cohere", upstreamModel: id === "command" ? id : `m!${id}` });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: ["command", ...faults, ...cuts].map(model),
    }),
    upstreams: [{ name: "cohere", type: "cohere", baseUrl: emulator.baseUrl, apiKeyEnv: "CO_KEY" }],
    env: { CO_KEY: "key-of-cohere" },
    limits: { breakerFailures: 1000 },
  });
  client = new OpenAI({ apiKey, baseURL: `${served.url}/v1`, maxRetries: 0 });
});
afterAll(async () => {
  await served.close();
  await emulator.close();
});

test("it answers whole and streamed, and what it bills is settled", async () => {
  const model = "command";
  const answer = await client.chat.completions.create({ model, messages });
  expect(answer.choices[0]).toMatchObject({
    message: { content: "Hello, wörld 🦜 and all" },
    finish_reason: "stop",
  });
  expect(answer.usage).toMatchObject({ prompt_tokens: 10, completion_tokens: 7 });
  expect(served.accounts.settled.at(-1)).toMatchObject({ usage: settledUsage, estimated: false });
  const stream = client.chat.completions.stream({ model, messages });
  expect(await stream.finalContent()).toBe("Hello, wörld 🦜 and all");
  expect(served.accounts.settled.at(-1)).toMatchObject({
    usage: settledUsage,
    estimated: false,
    outcome: "ok",
  });
});

test("tools are called, and their results go back", async () => {
  const tools = ["look", "now"].map((name) => ({ type: "function" as const, function: { name } }));
  const ask = { model: "command", messages, tools };
  const { message } = (await client.chat.completions.create(ask)).choices[0] ?? {};
  const streamed = await client.chat.completions.stream(ask).finalMessage();
  for (const said of [message, streamed]) {
    expect(said?.tool_calls).toMatchObject([
      { id: "look_1", function: { name: "look", arguments: '{"x":"ö"}' } },
      { id: "now_1", function: { name: "now", arguments: "{}" } },
    ]);
  }
  const results = ["now_1", "look_1"].map((tool_call_id) => ({
    role: "tool" as const,
    tool_call_id,
    content: `of ${tool_call_id}`,
  }));
  await client.chat.completions.create({
    model: "command",
    messages: [...messages, streamed, ...results],
  });
  expect(emulator.requests.at(-1)?.body.messages).toMatchObject([
    { role: "user", content: "two words" },
    { role: "assistant", tool_calls: [{ id: "look_1" }, { id: "now_1" }] },
    { role: "tool", tool_call_id: "now_1", content: "of now_1" },
    { role: "tool", tool_call_id: "look_1", content: "of look_1" },
  ]);
});

test("texts become vectors, which the client asks for in base64 unless it says otherwise", async () => {
  const input = ["a", "bcd"];
  for (const format of [undefined, "float", "base64"] as const) {
    const asked = { model: "command", input, ...(format && { encoding_format: format }) };
    const { data, model, usage } = await client.embeddings.create(asked);
    const vectors = data.map(({ embedding }) => embedding);
    if (format === "base64") expect(vectors[1]).toBe("AABAQAAAAD8=");
    else expect(vectors).toEqual([[1, 0.5], [3, 0.5]]); // biome-ignore format: two vectors
    expect({ model, tokens: usage.prompt_tokens }).toEqual({ model: "command", tokens: 2 });
    expect(served.accounts.settled.at(-1)).toMatchObject({ usage: { input: 2 }, estimated: false });
  }
  const asTokens = client.embeddings.create({ model: "command", input: [1, 2, 3] });
  await expect(asTokens).rejects.toMatchObject({ status: 400, param: "input" });
});

test("failures are told as OpenAI tells them", async () => {
  const fail = async (model: string) =>
    client.chat.completions.create({ model, messages }).catch((error: unknown) => error);
  const limited = (await fail("status-429")) as InstanceType<typeof OpenAI.APIError>;
  expect(limited).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
  expect(limited.headers?.get("retry-after")).toBe("7");
  expect(await fail("status-401")).toMatchObject({ status: 502 });
  expect(await fail("status-498")).toMatchObject({ status: 400, code: "invalid_value" });
  expect(await fail("status-404")).toMatchObject({ status: 502, code: "upstream_model_not_found" });
  expect(await fail("status-503")).toMatchObject({ status: 503, code: "upstream_unavailable" });
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
    expect(text, model).toBe("Hello, wörld 🦜");
    await served.accounts.untilSettled(before + 1);
    expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "upstream_failed" });
  }
});
