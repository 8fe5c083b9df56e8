/** OpenAI's embeddings from two clouds, with OpenAI's client. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BedrockEmulator, startBedrockEmulator } from "../../test/emulators/bedrock.ts";
import { type GeminiEmulator, startGeminiEmulator } from "../../test/emulators/gemini.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../test/support/policy.ts";

const apiKey = "sk-sy-embedding-key-of-the-tests";
const project = testProject("vectors");
const google = {
  predicted: "text-embedding-005",
  gemini: "gemini-embedding-001",
  newer: "publishers/google/models/gemini-embedding-2",
};
const amazon = {
  titan: "amazon.titan-embed-text-v2:0",
  cohere: "us.cohere.embed-v4:0",
  claude: "anthropic.claude-sonnet-4-5-20250929-v1:0",
};
let emulators: [GeminiEmulator, BedrockEmulator];
let gateway: TestGateway;
let client: OpenAI;

beforeAll(async () => {
  emulators = await Promise.all([
    startGeminiEmulator({ apiKey: "token" }),
    startBedrockEmulator({ apiKey: "key" }),
  ]);
  const [vertex, bedrock] = emulators;
  const modelsOf = (upstream: string, names: Record<string, string>) =>
    Object.entries(names).map(([id, upstreamModel]) => testModel(id, { upstream, upstreamModel }));
  gateway = await startTestGateway({
    snapshot: testSnapshot({
      projects: [project],
      keys: [testKey(apiKey, { projectId: project.id })],
      models: [...modelsOf("vertex", google), ...modelsOf("bedrock", amazon)],
    }),
    upstreams: [
      {
        name: "vertex",
        type: "vertex",
        project: "acme",
        location: "global",
        baseUrl: `${vertex.origin}/v1/projects/acme/locations/global`,
        apiKey: "token",
      },
      {
        name: "bedrock",
        type: "bedrock",
        region: "eu-west-1",
        baseUrl: bedrock.baseUrl,
        apiKey: "key",
      },
    ],
  });
  client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey, maxRetries: 0 });
});
afterAll(async () => {
  await gateway?.close();
  for (const emulator of emulators ?? []) await emulator.close();
});

const settledInput = () => {
  const { usage, estimated } = gateway.accounts.settled.at(-1) ?? {};
  return [usage, estimated];
};

test.each(["predicted", "gemini", "cohere"])(
  "%s embeds several texts, as floats and as base64, by what its provider counted",
  async (model) => {
    const asked = { model, input: ["a b", "four"], dimensions: 3 };
    const values = [
      [3, 3.125, 3.25],
      [4, 4.125, 4.25],
    ];
    for (const encoding_format of ["float", undefined] as const) {
      const answer = await client.embeddings.create({
        ...asked,
        ...(encoding_format && { encoding_format }),
      });
      expect(answer.data.map(({ embedding }) => embedding)).toEqual(values);
      expect(answer).toMatchObject({ model, usage: { prompt_tokens: 3, total_tokens: 3 } });
      expect(settledInput()).toEqual([{ input: 3 }, false]);
    }
  },
);

test.each(["newer", "titan"])("%s embeds one text at a time, and says so", async (model) => {
  const answer = await client.embeddings.create({ model, input: "a b", dimensions: 256 });
  expect(answer.data[0]?.embedding.slice(0, 2)).toEqual([3, 3.125]);
  expect(answer.data[0]?.embedding).toHaveLength(256);
  expect(settledInput()).toEqual([{ input: 2 }, false]);
  await expect(client.embeddings.create({ model, input: ["a", "b"] })).rejects.toThrow(
    /one text at once/,
  );
});

test("token ids are refused, unknown fields are told, and a model that makes none is named", async () => {
  await expect(client.embeddings.create({ model: "titan", input: [1, 2] })).rejects.toThrow(
    /token ids/,
  );
  const { response } = await client.embeddings
    .create({ model: "cohere", input: "a", user: "ann" })
    .withResponse();
  expect(response.headers.get("x-switchyard-dropped")).toBe("user");
  await expect(client.embeddings.create({ model: "claude", input: "a" })).rejects.toMatchObject({
    status: 400,
    code: "unsupported_model",
  });
});
