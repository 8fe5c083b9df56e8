/** OpenAI's embeddings from Gemini, with both of OpenAI's clients. */
import OpenAI from "openai";
import OpenAI6 from "openai-v6";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type GeminiEmulator, startGeminiEmulator } from "../../../test/emulators/gemini.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../../test/support/policy.ts";

const key = "sk-sy-embedding-key-of-the-tests";
const project = testProject("vectors");
let emulator: GeminiEmulator;
let gateway: TestGateway;
beforeAll(async () => {
  emulator = await startGeminiEmulator();
  gateway = await startTestGateway({
    snapshot: testSnapshot({
      projects: [project],
      keys: [testKey(key, { projectId: project.id })],
      models: [
        testModel("embedder", { upstreamModel: "gemini-embedding-001" }),
        testModel("silent", { upstreamModel: "gemini-embedding-001!nousage" }),
      ],
    }),
    upstreams: [{ name: "emulated", type: "gemini", baseUrl: emulator.baseUrl, apiKey: "key" }],
  });
});
afterAll(async () => {
  await gateway?.close();
  await emulator?.close();
});

test.each([
  ["7", OpenAI],
  ["6", OpenAI6 as unknown as typeof OpenAI],
])("openai %s gets vectors as floats and as base64", async (_, Client) => {
  const client = new Client({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
  const asked = { model: "embedder", input: ["a", "four"], dimensions: 3 };
  const values = [
    [1, 1.125, 1.25],
    [4, 4.125, 4.25],
  ];
  const unasked = await client.embeddings.create(asked);
  expect(unasked.data.map(({ embedding }) => embedding)).toEqual(values);
  expect(unasked).toMatchObject({ model: "embedder", usage: { prompt_tokens: 2 } });
  const floats = await client.embeddings.create({ ...asked, encoding_format: "float" });
  expect(floats.data.map(({ embedding }) => embedding)).toEqual(values);
  expect(gateway.accounts.settled.at(-1)).toMatchObject({ usage: { input: 2 }, estimated: false });
});

test("what no usage is told of is estimated; token ids are refused, and unknown fields told", async () => {
  const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
  const { response } = await client.embeddings
    .create({ model: "silent", input: "some text", user: "me" })
    .withResponse();
  expect(response.headers.get("x-switchyard-dropped")).toBe("user");
  const { usage, estimated } = gateway.accounts.settled.at(-1) ?? {};
  expect(estimated).toBe(true);
  expect(usage?.input).toBeGreaterThan(0);
  await expect(
    client.embeddings.create({ model: "embedder", input: [1, 2] }),
  ).rejects.toMatchObject({
    status: 400,
    param: "input",
  });
});
