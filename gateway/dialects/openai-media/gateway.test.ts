/** Moderations, images and audio through the gateway, with OpenAI's own SDK against an emulated OpenAI. */
import { hash } from "node:crypto";
import OpenAI, { toFile } from "openai";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Price } from "../../../sdk/protocol/catalog.ts";
import { newId } from "../../../sdk/protocol/ids.ts";
import type { Meter } from "../../../sdk/protocol/usage.ts";
import { startOpenAiEmulator } from "../../../test/emulators/openai.ts";
import {
  emulated,
  type MediaEmulator,
  startMediaEmulator,
} from "../../../test/emulators/openai-media.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../../test/support/policy.ts";
import type { Settlement } from "../../metering/types.ts";

const key = "sk-sy-media-key-of-the-tests";
const strictKey = "sk-sy-strict-key-of-the-tests";
const project = testProject("media");
const strict = testProject("strict", { unpriced: "refuse" });

/** Models by what they are billed for; a fault goes along in the upstream's name of the model. */
const models: Record<string, { upstreamModel?: string; prices: Partial<Record<Meter, string>> }> = {
  "omni-moderation-latest": { prices: { input: "0" } },
  painter: {
    prices: { input: "0.000005", input_image: "0.00001", output_image: "0.00004", output: "0" },
  },
  "painter-by-piece": { upstreamModel: "flux!no-usage", prices: { images: "0.04" } },
  "painter-cut": { upstreamModel: "painter!cut", prices: { images: "0.04" } },
  "painter-error": { upstreamModel: "painter!error-event", prices: { images: "0.04" } },
  voice: { prices: { input: "0.0000006", output_audio: "0.000012" } },
  "voice-by-letter": { upstreamModel: "tts-1", prices: { characters: "0.000015" } },
  "voice-cut": { upstreamModel: "tts-1!cut", prices: { characters: "0.000015" } },
  scribe: { prices: { input: "0.0000025", input_audio: "0.000006", output: "0.00001" } },
  "scribe-by-time": { upstreamModel: "whisper-1!by-time", prices: { audio_ms: "0.0000001" } },
  "scribe-silent": { upstreamModel: "whisper-1!no-usage", prices: { audio_ms: "0.0000001" } },
  "scribe-failing": { upstreamModel: "whisper-1!status:500", prices: {} },
  "scribe-html": { upstreamModel: "whisper-1!html", prices: {} },
  unpriced: { prices: {} },
};

let emulator: MediaEmulator;
let gateway: TestGateway;
let client: OpenAI;
beforeAll(async () => {
  emulator = await startMediaEmulator();
  gateway = await startTestGateway({
    snapshot: testSnapshot({
      projects: [project, strict],
      keys: [testKey(key, { projectId: project.id }), testKey(strictKey, { projectId: strict.id })],
      models: [
        ...Object.entries(models).map(([id, { upstreamModel = id }]) =>
          testModel(id, { upstreamModel }),
        ),
        testModel("claude", { upstream: "anthropic" }),
      ],
      prices: Object.entries(models).flatMap(([model, { prices }]) =>
        Object.entries(prices).map(([meter, usd]) => priceOf(model, meter as Meter, usd)),
      ),
    }),
    upstreams: [
      { name: "emulated", type: "openai", baseUrl: emulator.baseUrl, apiKey: "sk-media" },
      { name: "anthropic", type: "anthropic", baseUrl: "http://127.0.0.1:9", apiKey: "sk" },
    ],
    limits: { formBytesMax: 6 << 20 },
  });
  client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
});
afterAll(async () => {
  await gateway?.close();
  await emulator?.close();
});
beforeEach(() => {
  gateway.accounts.settled.length = 0;
  gateway.accounts.reserved.length = 0;
});

const recording = () => toFile(Buffer.alloc(32_000, 3), "höre.mp3", { type: "audio/mpeg" });
const settled = async (): Promise<Settlement> => {
  await gateway.accounts.untilSettled(1);
  expect(gateway.accounts.settled).toHaveLength(1);
  return gateway.accounts.settled[0] as Settlement;
};

test("a moderation that is free is billed as zero, and its tokens are a guess", async () => {
  const { data, response } = await client.moderations.create({ input: ["kill"] }).withResponse();
  expect(data.results[0]?.flagged).toBe(true);
  expect(response.headers.get("x-switchyard-cost-usd")).toBe("0");
  expect(await settled()).toMatchObject({ estimated: true, usage: { input: expect.any(Number) } });
});

test("a moderation without a price is unpriced and not free", async () => {
  const asked = client.moderations.create({ model: "unpriced", input: "kiss" });
  expect((await asked.asResponse()).headers.has("x-switchyard-cost-usd")).toBe(false);
});

test("an image's tokens are billed by their kind", async () => {
  const { data, response } = await client.images
    .generate({ model: "painter", prompt: "a cat" })
    .withResponse();
  expect(data.usage).toEqual(emulated.imageUsage);
  const { usage, estimated } = await settled();
  expect(usage).toEqual({ input: 10, input_image: 40, output_image: 1056, images: 1 });
  expect(estimated).toBe(false);
  // 10 · 0.000005 + 40 · 0.00001 + 1056 · 0.00004
  expect(response.headers.get("x-switchyard-cost-usd")).toBe("0.04269");
  expect(response.headers.get("x-switchyard-model")).toBe("painter");
  expect(emulator.requests.at(-1)?.fields).toEqual({ model: "painter", prompt: "a cat" });
});

test("images of a provider that tells no tokens are billed one by one", async () => {
  const wish = { model: "painter-by-piece", prompt: "a cat", n: 3 };
  const { response } = await client.images.generate(wish).withResponse();
  expect(response.headers.get("x-switchyard-cost-usd")).toBe("0.12");
  expect((await settled()).usage).toEqual({ images: 3 });
  const [reserved] = gateway.accounts.reserved;
  expect(reserved?.tariffs?.[0]).toEqual([{ quantity: 3, meters: ["images"] }]);
});

test("images come about as a stream, whose last event is seen when it is settled", async () => {
  const types: string[] = [];
  const stream = await client.images.generate({
    ...{ model: "painter", prompt: "a cat", stream: true, partial_images: 2 },
  });
  for await (const event of stream) {
    types.push(event.type);
    if (event.type === "image_generation.completed") {
      expect(gateway.accounts.settled).toHaveLength(1);
      expect(event.usage).toEqual(emulated.imageUsage);
    }
  }
  expect(types).toEqual([
    "image_generation.partial_image",
    "image_generation.partial_image",
    "image_generation.completed",
  ]);
  expect((await settled()).usage).toMatchObject({ output_image: 1056, images: 1 });
});

test.each([
  ["is cut", "painter-cut"],
  ["breaks off with an error", "painter-error"],
])("a stream of images that %s ends with an error, and is settled", async (_, model) => {
  const stream = await client.images.generate({
    ...{ model, prompt: "a cat", stream: true, partial_images: 2 },
  });
  await expect(
    (async () => {
      for await (const _ of stream);
    })(),
  ).rejects.toBeInstanceOf(OpenAI.APIError);
  expect(await settled()).toMatchObject({ outcome: "upstream_failed", estimated: true });
});

test("edited images travel as they are, under the upstream's name for the model", async () => {
  const bytes = Buffer.from("a picture \r\n--with lines\r\n");
  const image = await toFile(bytes, 'cat "1".png', { type: "image/png" });
  const mask = await toFile(Buffer.from("mask"), "mask.png", { type: "image/png" });
  const { data } = await client.images
    .edit({ model: "painter-by-piece", prompt: "ein Hut, größer", image, mask, n: 2 })
    .withResponse();
  expect(data.data).toHaveLength(2);
  const sent = emulator.requests.at(-1);
  expect(sent?.fields).toEqual({ model: "flux!no-usage", prompt: "ein Hut, größer", n: "2" });
  expect(sent?.files).toEqual([
    {
      name: "image",
      filename: 'cat "1".png',
      type: "image/png",
      bytes: bytes.length,
      sha256: hash("sha256", bytes),
    },
    expect.objectContaining({ name: "mask", filename: "mask.png", bytes: 4 }),
  ]);
  expect((await settled()).usage).toEqual({ images: 2 });
});

test("an edit may come as JSON, and may not name a second model", async () => {
  const images = [{ image_url: "https://example.com/cat.png" }];
  const edit = (more: object) =>
    fetch(`${gateway.url}/v1/images/edits`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "painter", prompt: "a hat", images, ...more }),
    });
  expect((await edit({})).status).toBe(200);
  const refused = await edit({ svg: { model: "gpt-9" } });
  expect(await refused.json()).toMatchObject({
    error: { code: "unsupported_parameter", param: "svg.model" },
  });
});

test("speech that is billed by letters passes as bytes, and costs what was known before", async () => {
  const input = "Grüße 👋";
  const spoken = await client.audio.speech.create({
    ...{ model: "voice-by-letter", voice: "ash", input },
  });
  expect(spoken.headers.get("content-type")).toBe("audio/mpeg");
  expect(Buffer.from(await spoken.arrayBuffer())).toEqual(emulated.audio);
  expect(await settled()).toMatchObject({ usage: { characters: 7 }, estimated: false });
  expect(emulator.requests.at(-1)?.fields).not.toHaveProperty("stream_format");
});

test("speech that is billed by tokens is asked for as events, and comes as bytes", async () => {
  const spoken = await client.audio.speech.create({
    ...{ model: "voice", voice: "ash", input: "Hello", response_format: "wav" },
  });
  expect(spoken.headers.get("content-type")).toBe("audio/wav");
  expect(Buffer.from(await spoken.arrayBuffer())).toEqual(emulated.audio);
  expect(emulator.requests.at(-1)?.fields).toMatchObject({ stream_format: "sse" });
  expect(await settled()).toMatchObject({
    usage: { input: 14, output_audio: 101, characters: 5 },
    estimated: false,
  });
});

test("a client that wants events gets them", async () => {
  const response = await client.audio.speech.create({
    ...{ model: "voice", voice: "ash", input: "Hello", stream_format: "sse" },
  });
  expect(response.headers.get("content-type")).toMatch("text/event-stream");
  const text = await response.text();
  expect(text.match(/speech\.audio\.delta/g)).toHaveLength(4);
  expect(text).toContain('"usage":{"input_tokens":14');
});

test("audio that is cut is no whole answer, and costs what it was", async () => {
  const spoken = await client.audio.speech.create({
    ...{ model: "voice-cut", voice: "ash", input: "Hello" },
  });
  await expect(spoken.arrayBuffer()).rejects.toThrow();
  expect(await settled()).toMatchObject({
    outcome: "upstream_failed",
    usage: { characters: 5 },
  });
});

test("what was heard is billed by its kind, whole and streamed", async () => {
  const file = await recording();
  const whole = await client.audio.transcriptions.create({ model: "scribe", file });
  expect(whole.text).toBe(emulated.transcript);
  const used = { input: 10, input_audio: 80, output: 7 };
  expect(await settled()).toMatchObject({ usage: used, estimated: false });
  expect(emulator.requests.at(-1)?.files[0]).toMatchObject({ filename: "höre.mp3", bytes: 32_000 });
  let text = "";
  for await (const event of await client.audio.transcriptions.create({
    ...{ model: "scribe", file: await recording(), stream: true },
  })) {
    if (event.type === "transcript.text.delta") text += event.delta;
    if (event.type === "transcript.text.done")
      expect(event.usage).toMatchObject({ type: "tokens" });
  }
  expect(text).toBe(emulated.transcript);
  expect(gateway.accounts.settled.map(({ usage }) => usage)).toEqual([used, used]);
});

test("seconds are billed where a provider tells seconds", async () => {
  const { response } = await client.audio.transcriptions
    .create({ model: "scribe-by-time", file: await recording() })
    .withResponse();
  expect((await settled()).usage).toEqual({ audio_ms: 9000 });
  expect(response.headers.get("x-switchyard-cost-usd")).toBe("0.0009");
});

test.each([
  ["text", emulated.transcript, 8000],
  ["srt", "00:00:00,000 --> 00:00:08,470", 8470],
  ["vtt", "WEBVTT", 8470],
] as const)("a %s tells no usage: it is estimated", async (response_format, start, audio_ms) => {
  const answer = (await client.audio.transcriptions.create({
    ...{ model: "scribe-silent", file: await recording(), response_format },
  })) as unknown as string;
  expect(answer).toContain(start);
  const { usage, estimated } = await settled();
  expect(usage?.audio_ms).toBe(audio_ms);
  expect(estimated).toBe(true);
});

test("a verbose transcript tells how long it was, also where no usage is told", async () => {
  const file = await recording();
  const model = "scribe-silent";
  await client.audio.translations.create({ model, file, response_format: "verbose_json" });
  expect(await settled()).toMatchObject({ usage: { audio_ms: 8470 }, estimated: false });
  expect(emulator.requests.at(-1)?.path).toBe("/v1/audio/translations");
});

test("the model's name may come after the file, and is the only one that goes out", async () => {
  const form = new FormData();
  form.append("file", new Blob([Buffer.alloc(1000)]), "a.wav");
  form.append("timestamp_granularities[]", "word");
  form.append("timestamp_granularities[]", "segment");
  form.append("model", "whisper-1");
  form.append("model", "scribe-by-time");
  const response = await post("/v1/audio/transcriptions", form);
  expect(response.status).toBe(200);
  expect(emulator.requests.at(-1)?.fields).toEqual({
    model: "whisper-1!by-time",
    "timestamp_granularities[]": ["word", "segment"],
  });
});

test.each([
  ["no file", {}, "missing_required_parameter"],
  ["no model", { file: new Blob(["x"]) }, "missing_required_parameter"],
  [
    "too large a file",
    { model: "scribe", file: new Blob([Buffer.alloc(7 << 20)]) },
    "request_too_large",
  ],
])("a form with %s is refused by name", async (_, fields, code) => {
  const form = new FormData();
  form.append("prompt", "names");
  for (const [name, value] of Object.entries(fields)) form.append(name, value as string);
  const asked = emulator.requests.length;
  const response = await post("/v1/audio/transcriptions", form);
  expect(await response.json()).toMatchObject({ error: { code } });
  expect(emulator.requests).toHaveLength(asked);
  expect(gateway.accounts.reserved).toEqual([]);
});

test("a form that is none is refused", async () => {
  const response = await fetch(`${gateway.url}/v1/audio/transcriptions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: "{}",
  });
  expect(response.status).toBe(415);
});

test.each([
  ["answers with an error", "scribe-failing", "upstream_error"],
  ["answers with a page", "scribe-html", "upstream_error"],
])("an upstream that %s is told as one", async (_, model, code) => {
  const error = await client.audio.transcriptions
    .create({ model, file: await recording() })
    .catch((thrown) => thrown);
  expect(error).toBeInstanceOf(OpenAI.InternalServerError);
  expect(error.code).toBe(code);
  expect(await settled()).toMatchObject({ outcome: "upstream_failed" });
});

test("a model whose provider has nothing of the kind is refused by what it lacks", async () => {
  const error = await client.images
    .generate({ model: "claude", prompt: "a cat" })
    .catch((it) => it);
  expect(error).toMatchObject({ status: 400, code: "unsupported_model", param: "model" });
  expect(error.message).toContain("/v1/images/generations");
});

test("audio in a chat is billed as audio, streamed or not", async () => {
  const usage = {
    ...{ prompt_tokens: 30, completion_tokens: 50, total_tokens: 80 },
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 20 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 45 },
  };
  const chats = await startOpenAiEmulator({ answer: () => ({ content: "Hi", usage }) });
  const talking = await startTestGateway({
    snapshot: testSnapshot({
      projects: [project],
      keys: [testKey(key, { projectId: project.id })],
      models: [testModel("gpt-audio"), testModel("by-text")],
      prices: [
        ...(["input", "input_audio", "output", "output_audio"] as const).map((meter) =>
          priceOf("gpt-audio", meter, meter.endsWith("audio") ? "0.00004" : "0.000002"),
        ),
        ...(["input", "output"] as const).map((meter) => priceOf("by-text", meter, "0.000002")),
      ],
    }),
    upstreams: [{ name: "emulated", type: "openai", baseUrl: chats.baseUrl }],
  });
  try {
    const { completions } = new OpenAI({ baseURL: `${talking.url}/v1`, apiKey: key }).chat;
    const messages = [{ role: "user" as const, content: "Hello" }];
    const { response } = await completions.create({ model: "gpt-audio", messages }).withResponse();
    // 65 · 0.00004 + 15 · 0.000002
    expect(response.headers.get("x-switchyard-cost-usd")).toBe("0.00263");
    for await (const _ of await completions.create({ model: "gpt-audio", messages, stream: true }));
    const used = {
      input: 10,
      cache_read: 0,
      input_audio: 20,
      output: 5,
      reasoning: 0,
      output_audio: 45,
    };
    expect(talking.accounts.settled.map((line) => line.usage)).toEqual([used, used]);
    const byText = await completions.create({ model: "by-text", messages }).withResponse();
    expect(byText.response.headers.has("x-switchyard-cost-usd")).toBe(false);
  } finally {
    await talking.close();
    await chats.close();
  }
});

test("a project that refuses what has no price is told which prices would do", async () => {
  const careful = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: strictKey, maxRetries: 0 });
  const error = await careful.audio.speech
    .create({ model: "unpriced", voice: "ash", input: "Hi" })
    .catch((it) => it);
  expect(error.code).toBe("no_price");
  expect(error.message).toContain("'characters', or for 'input' and 'output_audio'");
  const spoken = await careful.audio.speech.create({
    ...{ model: "voice-by-letter", voice: "ash", input: "Hi" },
  });
  expect(spoken.status).toBe(200);
});

function post(path: string, form: FormData): Promise<Response> {
  const headers = { authorization: `Bearer ${key}` };
  return fetch(`${gateway.url}${path}`, { method: "POST", headers, body: form });
}

function priceOf(model: string, meter: Meter, usdPerToken: string): Price {
  const at = "2026-01-01T00:00:00.000Z";
  return {
    ...{ id: newId("price"), model, meter, usdPerToken, validFrom: at, recordedAt: at },
    source: "test",
  };
}
