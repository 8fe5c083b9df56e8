/** The emulator as AWS's own SDK sees it: what that cannot read is wrong. */
import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  InvokeModelCommand,
} from "@aws-sdk/client-bedrock-runtime";
import { afterAll, beforeAll, expect, test } from "vitest";
import { http1 } from "../support/http1.ts";
import { type BedrockEmulator, startBedrockEmulator } from "./bedrock.ts";

const keys = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "secret/of+tests" };
let emulator: BedrockEmulator;

beforeAll(async () => {
  emulator = await startBedrockEmulator({
    apiKey: "key",
    keys: { ...keys, region: "eu-west-1" },
    answer: () => ({
      content: [
        { reasoningContent: { reasoningText: { text: "I think.", signature: "c2ln" } } },
        { text: "Hello, wörld 🦜" },
        { toolUse: { toolUseId: "t1", name: "look", input: { x: "ö" } } },
      ],
    }),
  });
});
afterAll(() => emulator.close());

const connect = (credentials: object) =>
  new BedrockRuntimeClient({
    region: "eu-west-1",
    endpoint: emulator.baseUrl,
    maxAttempts: 1,
    requestHandler: http1,
    ...credentials,
  });
const bearer = { token: { token: "key" }, authSchemePreference: ["httpBearerAuth"] };
const input = (modelId: string) => ({
  modelId,
  messages: [{ role: "user" as const, content: [{ text: "two words" }] }],
});

test("answers, by key and by signature, under names with colons and slashes", async () => {
  for (const credentials of [bearer, { credentials: keys }]) {
    const client = connect(credentials);
    const modelId = "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-v1:0";
    const answer = await client.send(new ConverseCommand(input(modelId)));
    expect(answer.output?.message?.content).toHaveLength(3);
    expect(answer).toMatchObject({ stopReason: "tool_use", usage: { inputTokens: 2 } });
    expect(emulator.requests.at(-1)?.model).toBe(modelId);
  }
  const wrong = connect({ credentials: { ...keys, secretAccessKey: "another" } });
  await expect(wrong.send(new ConverseCommand(input("m")))).rejects.toThrow("security token");
});

test("streams, however they are cut, with calls, thoughts and usage", async () => {
  for (const model of ["m", "m!split"]) {
    const { stream } = await connect(bearer).send(new ConverseStreamCommand(input(model)));
    let text = "";
    let called = "";
    let signature: string | undefined;
    let usage: unknown;
    for await (const event of stream ?? []) {
      const { delta } = event.contentBlockDelta ?? {};
      text += delta?.text ?? "";
      called += delta?.toolUse?.input ?? "";
      signature ??= delta?.reasoningContent?.signature;
      usage ??= event.metadata?.usage;
    }
    expect({ text, called, signature }).toEqual({
      text: "Hello, wörld 🦜",
      called: '{"x":"ö"}',
      signature: "c2ln",
    });
    expect(usage).toEqual({ inputTokens: 2, outputTokens: 3, totalTokens: 5 });
  }
});

test("errors, before an answer and within it", async () => {
  const ask = (model: string) => connect(bearer).send(new ConverseCommand(input(model)));
  await expect(ask("m!status-429")).rejects.toMatchObject({ name: "ThrottlingException" });
  await expect(ask("m!status-400")).rejects.toMatchObject({ name: "ValidationException" });
  const { stream } = await connect(bearer).send(new ConverseStreamCommand(input("m!error-2")));
  const read = async () => {
    for await (const _ of stream ?? []);
  };
  await expect(read()).rejects.toMatchObject({ name: "ThrottlingException" });
});

test("embeddings of Titan and Cohere, as InvokeModel gives them", async () => {
  const invoke = async (modelId: string, body: object) => {
    const command = new InvokeModelCommand({ modelId, body: JSON.stringify(body) });
    return JSON.parse(new TextDecoder().decode((await connect(bearer).send(command)).body));
  };
  const titan = { inputText: "two words", dimensions: 256 };
  expect(await invoke("amazon.titan-embed-text-v2:0", titan)).toMatchObject({
    embedding: expect.objectContaining({ length: 256 }),
    inputTextTokenCount: 2,
  });
  const cohere = { texts: ["a", "four"], input_type: "search_query" };
  expect(await invoke("cohere.embed-english-v3", cohere)).toMatchObject({
    response_type: "embeddings_floats",
    embeddings: [
      [1, 1.125, 1.25, 1.375],
      [4, 4.125, 4.25, 4.375],
    ],
  });
  await expect(invoke("cohere.embed-english-v3", { texts: ["a"] })).rejects.toThrow("Malformed");
});
