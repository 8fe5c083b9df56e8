/** OpenAI's client in front of Bedrock, through the real gateway: by an API key, and by signatures. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BedrockEmulator, startBedrockEmulator } from "../../../test/emulators/bedrock.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../../test/support/policy.ts";

const apiKey = "sk-sy-key-of-the-acme-project";
const acme = testProject("acme");
const faults = ["status-429", "status-403", "status-400", "status-404", "status-424", "status-503"];
const cuts = ["cut-3", "end-3", "error-3"];
const claude = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const usage = {
  inputTokens: 6,
  outputTokens: 7,
  totalTokens: 17,
  cacheReadInputTokens: 4,
  cacheWriteInputTokens: 0,
};
const keys = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "secret/of+tests" };

let emulator: BedrockEmulator;
let served: TestGateway;
let client: OpenAI;

beforeAll(async () => {
  emulator = await startBedrockEmulator({
    apiKey: "key-of-aws",
    keys: { ...keys, region: "eu-west-1" },
    answer({ body }) {
      if (!body.toolConfig) return { content: [{ text: "Hello, wörld 🦜 and all" }], usage };
      return {
        content: [
          { reasoningContent: { reasoningText: { text: "Let me see.", signature: "c2ln" } } },
          { toolUse: { toolUseId: "tooluse_1", name: "look", input: { x: "ö" } } },
          { toolUse: { toolUseId: "tooluse_2", name: "now", input: {} } },
        ],
        usage,
      };
    },
  });
  const model = (id: string, upstream = "aws") =>
    testModel(id, { upstream, upstreamModel: id.startsWith("claude") ? claude : `m!${id}` });
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: [
        model("claude"),
        model("claude-signed", "signed"),
        ...[...faults, ...cuts].map((id) => model(id)),
      ],
    }),
    upstreams: [
      {
        name: "aws",
        type: "bedrock",
        region: "eu-west-1",
        baseUrl: emulator.baseUrl,
        apiKey: "key-of-aws",
      },
      { name: "signed", type: "bedrock", region: "eu-west-1", baseUrl: emulator.baseUrl },
    ],
    env: {
      AWS_ACCESS_KEY_ID: keys.accessKeyId,
      AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    },
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
const settledUsage = { input: 6, cache_read: 4, cache_write: 0, output: 7 };

test.each(["claude", "claude-signed"])("%s answers whole and streamed", async (model) => {
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
  expect(emulator.requests.at(-1)).toMatchObject({ model: claude, stream: true });
});

test("tools are called, and their results go back, declared or not", async () => {
  const ask = { model: "claude", messages, tools };
  const { message } = (await client.chat.completions.create(ask)).choices[0] ?? {};
  const streamed = await client.chat.completions.stream(ask).finalMessage();
  for (const said of [message, streamed]) {
    expect(said?.tool_calls).toMatchObject([
      { id: "tooluse_1", function: { name: "look", arguments: '{"x":"ö"}' } },
      { id: "tooluse_2", function: { name: "now", arguments: "{}" } },
    ]);
  }
  const results = ["tooluse_2", "tooluse_1"].map((tool_call_id) => ({
    role: "tool" as const,
    tool_call_id,
    content: `of ${tool_call_id}`,
  }));
  await client.chat.completions.create({
    model: "claude",
    messages: [...messages, streamed, ...results, { role: "user", content: "Go on." }],
  });
  const { body } = emulator.requests.at(-1) ?? {};
  expect(body?.messages?.slice(1)).toEqual([
    {
      role: "assistant",
      content: [
        { reasoningContent: { reasoningText: { text: "Let me see.", signature: "c2ln" } } },
        { toolUse: { toolUseId: "tooluse_1", name: "look", input: { x: "ö" } } },
        { toolUse: { toolUseId: "tooluse_2", name: "now", input: {} } },
      ],
    },
    {
      role: "user",
      content: [
        { toolResult: { toolUseId: "tooluse_2", content: [{ text: "of tooluse_2" }] } },
        { toolResult: { toolUseId: "tooluse_1", content: [{ text: "of tooluse_1" }] } },
        { text: "Go on." },
      ],
    },
  ]);
  expect(body?.toolConfig).toMatchObject({ tools: [{ toolSpec: { name: "look" } }, {}] });
});

test("failures are told as OpenAI tells them", async () => {
  const fail = async (model: string) =>
    client.chat.completions.create({ model, messages }).catch((error: unknown) => error);
  const limited = (await fail("status-429")) as InstanceType<typeof OpenAI.APIError>;
  expect(limited).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
  expect(limited.headers?.get("retry-after")).toBe("7");
  expect(await fail("status-403")).toMatchObject({ status: 502 });
  expect(await fail("status-400")).toMatchObject({ status: 400, code: "invalid_value" });
  expect(await fail("status-404")).toMatchObject({ status: 502, code: "upstream_model_not_found" });
  expect(await fail("status-424")).toMatchObject({ status: 502, code: "upstream_error" });
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
    expect(text, model).toBe("Hello, wörld");
    await served.accounts.untilSettled(before + 1);
    expect(served.accounts.settled.at(-1)).toMatchObject({ outcome: "upstream_failed" });
  }
});
