/** `/v1/embeddings` over the real engine and the demo model, asked by the official client. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { tinyStates, tinyWidth, writeTinyEncoder } from "../__fixtures__/tiny-encoder.ts";
import type { Engine } from "../engine/engine.ts";
import { digestOfFiles, readAdapterFolder } from "../lora/adapter-source.ts";
import { createTokenizer, type Tokenizer } from "../models/tokenizer.ts";
import { type AdapterServer, createAdapterServer } from "../server.ts";

const operatorKey = "operator-key-of-the-test";
const texts = [
  "My card was charged twice for the same order.",
  "Please book a table for four at seven this evening.",
  "The app crashes whenever I open the settings page, on both of my phones, since the update.",
];

let dataDir: string;
let server: AdapterServer;
let client: OpenAI;
let tokenizer: Tokenizer;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "embeddings-"));
  const encoder = { id: "tiny-encoder", folder: join(dataDir, "tiny") };
  await writeTinyEncoder(encoder.folder);
  server = await createAdapterServer({
    encoder,
    model: { id: "support-tiny", folder: join(demoFolder, "base") },
    format: "f32",
    dataDir,
    operatorKey,
    adapterFolders: [join(demoFolder, "adapters")],
    limits: { adapterSlots: 2, kvCacheTokens: 2048, sequencesMax: 4, prefillChunkMax: 7 },
    threads: 2,
    version: "test",
    onFault: (message, cause) => {
      throw new Error(message, { cause });
    },
  });
  tokenizer = createTokenizer(server.model.tokenizer);
  const { app } = server;
  client = new OpenAI({
    apiKey: operatorKey,
    baseURL: "http://test/v1",
    maxRetries: 0,
    fetch: async (url, init) => app.fetch(new Request(url, init)),
  });
  for (const name of ["banking-intent", "tone-formal"]) {
    const path = "/load_lora_adapter";
    await client.post(path, { body: { lora_name: name, lora_path: name }, __binaryResponse: true });
  }
});

afterAll(async () => {
  await server?.close();
  await rm(dataDir, { recursive: true, force: true });
});

type Extra = Record<string, unknown>;
async function embed(input: OpenAI.EmbeddingCreateParams["input"], extra: Extra = {}) {
  const body = { model: "support-tiny", input, ...extra };
  const answer = await client.embeddings.create({ encoding_format: "float", ...body });
  return { ...answer, vectors: answer.data.map(({ embedding }) => embedding) };
}

test("texts and their tokens, alone and together, in floats and in the client's own base64, have equal vectors", async () => {
  const together = await embed(texts);
  const tokens = texts.map((text) => tokenizer.encode(text, { addSpecialTokens: true }));
  const total = tokens.flat().length;
  expect(together.usage).toEqual({ prompt_tokens: total, total_tokens: total });
  expect(together.data.map(({ index }) => index)).toEqual([0, 1, 2]);
  const others = [
    await embed(tokens),
    // The client asks for base64 where nothing is said.
    await embed(texts, { encoding_format: undefined }),
  ];
  for (const other of others) expect(largest(other.vectors, together.vectors)).toBeLessThan(1e-5);
  for (const [index, vector] of together.vectors.entries()) {
    expect(vector).toHaveLength(256);
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    const alone = await embed(texts[index]!);
    expect(largest(alone.vectors, [vector])).toBeLessThan(1e-5);
  }
});

test("an adapter's embeddings are its own, by name, by digest and in a mix, and the answer says whose they are", async () => {
  const base = await embed(texts);
  const named = await embed(texts, { model: "banking-intent" });
  expect(largest(named.vectors, base.vectors)).toBeGreaterThan(0.01);
  const files = await readAdapterFolder(join(demoFolder, "adapters/banking-intent"), 1 << 30);
  const digest = digestOfFiles(files);
  const model = `support-tiny@sha256-${digest}`;
  const { data, response } = await client.embeddings
    .create({ model, input: texts, encoding_format: "float" })
    .withResponse();
  expect(response.headers.get("x-switchyard-adapter")).toBe(digest);
  const vectors = data.data.map(({ embedding }) => embedding);
  expect(largest(vectors, named.vectors)).toBeLessThan(1e-5);
  const mix = (weight: number) =>
    embed(texts, {
      adapters: [
        { model: "banking-intent", weight },
        { model: "tone-formal", weight: 0 },
      ],
    });
  expect(largest((await mix(1)).vectors, named.vectors)).toBeLessThan(1e-4);
  expect(largest((await mix(0)).vectors, base.vectors)).toBeLessThan(1e-4);
  await expect(embed(texts, { model: "nobody" })).rejects.toMatchObject({ status: 404 });
});

test("a mean is that of all beginnings' last states", async () => {
  const tokens = tokenizer.encode(texts[2]!);
  const beginnings = tokens.map((_, index) => tokens.slice(0, index + 1));
  const lasts = (await embed(beginnings, { normalize: false })).vectors;
  const mean = lasts[0]!.map((_, i) => lasts.reduce((sum, one) => sum + one[i]!, 0) / lasts.length);
  const ours = await embed([tokens], { normalize: false, pooling_type: "MEAN" });
  expect(largest(ours.vectors, [mean])).toBeLessThan(1e-4);
});

test("what is too long, unknown or too much is refused, and its place told", async () => {
  const long = new Array<number>(2100).fill(5);
  for (const [input, extra, error] of [
    [[[5], long], {}, { code: "context_length_exceeded", param: "input[1]" }],
    [[[5], [4096]], {}, { code: "number_out_of_range", param: "input[1]" }],
    [texts, { dimensions: 64 }, { code: "unsupported_parameter", param: "dimensions" }],
    [new Array(2049).fill("a"), {}, { code: "number_out_of_range", param: "input" }],
  ] as const) {
    const asked = embed(input as OpenAI.EmbeddingCreateParams["input"], extra);
    await expect(asked).rejects.toMatchObject({ status: 400, ...error });
  }
});

test("an encoder beside the base is a model of its own, with its own tokenizer, pooling and width", async () => {
  const { data: models } = await client.models.list();
  expect(models.map(({ id }) => id)).toContain("tiny-encoder");
  const model = "tiny-encoder";
  const answer = await embed(["the small model", "words"], { model });
  expect(answer.usage).toEqual({ prompt_tokens: 8, total_tokens: 8 });
  const expected = [
    [2, 4, 5, 6, 3],
    [2, 8, 3],
  ].map((tokens) => {
    const states = tinyStates(tokens);
    const sums = Array.from({ length: tinyWidth }, (_, i) =>
      states.reduce((sum, state) => sum + state[i]!, 0),
    );
    return sums.map((sum) => sum / Math.hypot(...sums));
  });
  expect(largest(answer.vectors, expected)).toBeLessThan(1e-5);
  for (const [extra, error] of [
    [{ pooling_type: "LAST" }, { status: 400, param: "pooling_type" }],
    [{ adapters: [{ model: "banking-intent", weight: 1 }] }, { status: 400, param: "model" }],
  ] as const) {
    await expect(embed("words", { model, ...extra })).rejects.toMatchObject(error);
  }
  const long = embed("words ".repeat(31), { model });
  await expect(long).rejects.toMatchObject({ code: "context_length_exceeded", param: "input[0]" });
  await expect(embed([[9]], { model })).rejects.toMatchObject({ code: "number_out_of_range" });
});

test("who leaves stops the work, and nothing is held after any of it", async () => {
  const controller = new AbortController();
  const queried = server.engine.stats().prefixTokensQueried;
  // Statistics are told now and then: only work that goes on for a while shows in them.
  const long = texts[2]!.repeat(20);
  const many = Array.from({ length: 200 }, (_, index) => `${index} ${long}`);
  const asked = client.embeddings.create(
    { model: "banking-intent", input: many },
    { signal: controller.signal },
  );
  while (server.engine.stats().prefixTokensQueried === queried) {
    await new Promise((next) => setTimeout(next, 1));
  }
  controller.abort();
  await expect(asked).rejects.toMatchObject({ status: 499 });
  await idle(server.engine);
  expect(server.engine.stats()).toMatchObject({ waiting: 0, blocksUsed: 0 });
});

async function idle(engine: Engine): Promise<void> {
  while (engine.stats().running + engine.stats().waiting > 0) {
    await new Promise((next) => setTimeout(next, 1));
  }
}

function largest(a: number[][], b: number[][]): number {
  expect(a).toHaveLength(b.length);
  return Math.max(
    ...a.flatMap((vector, i) => vector.map((value, j) => Math.abs(value - b[i]![j]!))),
  );
}
