/** The HTTP surface over the real engine and the demo model. */
import { access, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { serve } from "@hono/node-server";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ChatCompletion } from "../sdk/protocol/chat.ts";
import { SseParser } from "../sdk/protocol/sse.ts";
import { digestOfFiles, folderSource, readAdapterFolder } from "./lora/adapter-source.ts";
import type { AdapterAuditEvent } from "./lora/adapter-store.ts";
import { type AdapterServer, createAdapterServer } from "./server.ts";

const demo = fileURLToPath(new URL("../deploy/demo-model/", import.meta.url));
const operatorKey = "operator-key-of-the-test";
const apiKey = "client-key-of-the-test";
const names = ["banking-intent", "restaurant-slots", "support-triage", "tone-formal"];

let dataDir: string;
let server: AdapterServer;
let client: OpenAI;
let stopListening: () => void;
const faults: unknown[] = [];
const events: AdapterAuditEvent[] = [];
/** Digest by adapter name. */
const digests: Record<string, string> = {};

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "adapter-server-"));
  for (const name of names) {
    digests[name] = digestOfFiles(await readAdapterFolder(join(demo, "adapters", name), 1 << 30));
  }
  server = await createAdapterServer({
    model: { id: "support-tiny", folder: join(demo, "base") },
    format: "f32",
    dataDir,
    operatorKey,
    apiKey,
    adapterFolders: [join(demo, "adapters")],
    // The registry's part, played by the demo's folders.
    source: await folderSource([join(demo, "adapters")], 1 << 30),
    limits: { adapterSlots: 2, kvCacheTokens: 4096, sequencesMax: 8 },
    threads: 2,
    version: "test",
    onFault: (message, cause) => faults.push({ message, cause }),
    onAdapterEvent: (event) => events.push(event),
  });
  const listener = serve({ fetch: server.app.fetch, hostname: "127.0.0.1", port: 0 });
  await new Promise((resolve) => listener.once("listening", resolve));
  const { port } = listener.address() as AddressInfo;
  client = new OpenAI({ apiKey, baseURL: `http://127.0.0.1:${port}/v1`, maxRetries: 0 });
  stopListening = () => listener.close();
  await load("banking-intent");
});

afterAll(async () => {
  stopListening?.();
  await server?.close();
  await rm(dataDir, { recursive: true, force: true });
  expect(faults).toEqual([]);
});

type Fields = Record<string, unknown>;

async function post(
  path: string,
  body: Fields,
  key = operatorKey,
  headers: Record<string, string> = {},
) {
  return server.app.fetch(
    new Request(`http://test${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    }),
  );
}

const get = (path: string) =>
  server.app.fetch(
    new Request(`http://test${path}`, { headers: { authorization: `Bearer ${operatorKey}` } }),
  );
const load = (name: string, fields: Fields = {}) =>
  post("/v1/load_lora_adapter", { lora_name: name, lora_path: name, ...fields });
const unload = (name: string) => post("/v1/unload_lora_adapter", { lora_name: name });
const question = (content: string) => [{ role: "user" as const, content }];

async function chat(fields: Fields, key = operatorKey): Promise<ChatCompletion> {
  const response = await post("/v1/chat/completions", { temperature: 0, ...fields }, key);
  expect(response.status).toBe(200);
  return (await response.json()) as ChatCompletion;
}

async function errorOf(response: Response) {
  const { error } = (await response.json()) as { error: Fields };
  return { status: response.status, ...error };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}

type Golden = {
  messages: { role: string; content: string }[];
  prompt_ids: number[];
  greedy_ids: number[];
  greedy_text: string;
  greedy_margin_to_second: number[];
};
type GoldenFile = { goldens: Golden[]; mix?: { adapter: string; weight: number }[] };

async function golden(name: string): Promise<{ clear: Golden[]; mix: GoldenFile["mix"] }> {
  const path = new URL(`../../shared/fixtures/tiny/goldens/${name}.json`, import.meta.url);
  const { goldens, mix } = JSON.parse(await readFile(path, "utf8")) as GoldenFile;
  // Where two tokens are almost equally likely, float arithmetic in another order may choose the other.
  return { clear: goldens.filter((one) => Math.min(...one.greedy_margin_to_second) > 0.01), mix };
}

async function expectGolden(fields: Fields, { messages, ...expected }: Golden) {
  const answer = await chat({ ...fields, messages, max_tokens: 48 });
  expect(answer.choices[0]?.message.content).toBe(expected.greedy_text.replace("<|im_end|>", ""));
  expect(answer.usage.prompt_tokens).toBe(expected.prompt_ids.length);
  expect(answer.usage.completion_tokens).toBe(expected.greedy_ids.length);
  expect(answer.choices[0]?.finish_reason).toBe(
    expected.greedy_ids.at(-1) === 2 ? "stop" : "length",
  );
}

const withGoldens = test.skipIf(
  await access(new URL("../../shared/fixtures/tiny/goldens/", import.meta.url)).then(
    () => false,
    () => true,
  ),
);

withGoldens(
  "greedy answers of the base and of every adapter are the reference's [needs ../shared/fixtures/tiny]",
  async () => {
    await Promise.all(
      ["base", ...names].map(async (name) => {
        const model = name === "base" ? "support-tiny" : `support-tiny@sha256-${digests[name]}`;
        const { clear } = await golden(name);
        expect(clear.length).toBeGreaterThan(3);
        await Promise.all(clear.map((one) => expectGolden({ model }, one)));
      }),
    );
  },
);

withGoldens(
  "a weighted mix of adapters answers as the reference's sum of them [needs ../shared/fixtures/tiny]",
  async () => {
    for (const name of ["mix-banking-tone", "mix-restaurant-triage"]) {
      const { clear, mix = [] } = await golden(name);
      const adapters = mix.map(({ adapter, weight }) => ({
        model: `sha256-${digests[adapter]}`,
        weight,
      }));
      for (const one of clear) await expectGolden({ model: "support-tiny", adapters }, one);
    }
  },
);

test("the official client reads an answer, its usage and the request's id", async () => {
  const { data, response } = await client.chat.completions
    .create({
      model: "support-tiny",
      messages: question("How do I reset my password?"),
      temperature: 0,
    })
    .withResponse();
  expect(data.choices[0]).toMatchObject({ finish_reason: "stop", message: { role: "assistant" } });
  expect(data.choices[0]?.message.content).toContain("password");
  expect(data.usage?.total_tokens).toBe(
    (data.usage?.prompt_tokens ?? 0) + (data.usage?.completion_tokens ?? 0),
  );
  expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  expect(response.headers.get("x-switchyard-adapter")).toBe(null);
  expect(response.headers.get("x-switchyard-model")).toBe("support-tiny");
});

test("the official client streams the same text, ends with a reason, and gets usage when it asks", async () => {
  const request = {
    model: "banking-intent",
    messages: question("Intent of this banking message: my card is lost"),
    temperature: 0,
  };
  // Asked before, so that both find the same of the prompt in the prefix cache.
  await client.chat.completions.create(request);
  const whole = await client.chat.completions.create(request);
  const stream = await client.chat.completions.create({
    ...request,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  expect(chunks[0]?.choices[0]?.delta.role).toBe("assistant");
  expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(
    whole.choices[0]?.message.content,
  );
  expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe("stop");
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
  expect(chunks[0]?.usage).toBe(null);
  const final = await client.chat.completions.stream(request).finalChatCompletion();
  expect(final.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
});

test("the response names the digest of the adapter that sat in the slot, on streams too", async () => {
  const model = `support-tiny@sha256-${digests["tone-formal"]}`;
  for (const stream of [false, true]) {
    const response = await post("/v1/chat/completions", {
      model,
      stream,
      messages: question("Hi"),
      max_tokens: 2,
    });
    expect(response.headers.get("x-switchyard-adapter")).toBe(digests["tone-formal"]);
    await response.text();
  }
  const mix = await post("/v1/chat/completions", {
    model: "support-tiny",
    adapters: [
      { model: "banking-intent", weight: 0.5 },
      { model: `sha256-${digests["tone-formal"]}` },
    ],
    messages: question("Hi"),
    max_tokens: 2,
  });
  expect(mix.headers.get("x-switchyard-adapter")).toMatch(/^[0-9a-f]{64}$/);
  expect(Object.values(digests)).not.toContain(mix.headers.get("x-switchyard-adapter"));
});

test("the gateway's name for the weights stands in the answer; other callers cannot give one", async () => {
  const model = `support-tiny@sha256-${digests["tone-formal"]}`;
  const servedAs = { "x-switchyard-model": "support-tiny:tone@3" };
  const named = await post(
    "/v1/chat/completions",
    { model, messages: question("Hi"), max_tokens: 2 },
    operatorKey,
    servedAs,
  );
  expect(await named.json()).toMatchObject({ model: "support-tiny:tone@3" });
  const other = await post(
    "/v1/chat/completions",
    { model: "support-tiny", messages: question("Hi"), max_tokens: 2 },
    apiKey,
    servedAs,
  );
  expect(await other.json()).toMatchObject({ model: "support-tiny" });
});

test("more adapters at once than slots, mixed with the base: each answers as if alone", async () => {
  const models = ["support-tiny", ...names.map((name) => `support-tiny@sha256-${digests[name]}`)];
  const prompts = [
    "Where is my parcel?",
    "Triage this message: nothing works!",
    "Intent of this banking message: top up",
  ];
  const requests = models.flatMap((model) =>
    prompts.map((text) => ({ model, messages: question(text), max_tokens: 24 })),
  );
  const alone: (string | null | undefined)[] = [];
  for (const request of requests) alone.push((await chat(request)).choices[0]?.message.content);
  const together = await Promise.all(requests.map(chatText));
  expect(together).toEqual(alone);
  expect(new Set(alone).size).toBeGreaterThan(models.length);
});

const chatText = async (fields: Fields) => (await chat(fields)).choices[0]?.message.content;

test("a seed repeats an answer, other seeds give others, and n gives several", async () => {
  const request = {
    model: "support-tiny",
    messages: question("Hello"),
    temperature: 1.5,
    max_tokens: 16,
  };
  const [first, again, other] = await Promise.all([
    chatText({ ...request, seed: 7 }),
    chatText({ ...request, seed: 7 }),
    chatText({ ...request, seed: 8 }),
  ]);
  expect(again).toBe(first);
  expect(other).not.toBe(first);
  expect(await chatText({ ...request, seed: 8, top_k: 1 })).toBe(
    await chatText({ ...request, temperature: 0 }),
  );
  const several = await chat({ ...request, seed: 7, n: 3 });
  const texts = several.choices.map(({ message }) => message.content);
  expect(texts[0]).toBe(first);
  expect(new Set(texts).size).toBe(3);
  expect(several.usage.completion_tokens).toBeGreaterThan(16);
});

describe("what is cached of a prompt", () => {
  const ask = (content: string, more: Fields = {}, headers: Record<string, string> = {}) =>
    post(
      "/v1/chat/completions",
      {
        model: "support-tiny",
        temperature: 0,
        max_tokens: 4,
        messages: question(content),
        ...more,
      },
      operatorKey,
      headers,
    ).then(async (response) => (await response.json()) as ChatCompletion);
  const cachedIn = ({ usage }: ChatCompletion) => usage.prompt_tokens_details?.cached_tokens;
  const tenant = (name: string) => ({ "x-switchyard-tenant": name });
  const long = "Where is the parcel that I ordered last week? ".repeat(8);

  test("is told in the usage, is in whole blocks, and changes nothing in the answer", async () => {
    const first = await ask(`${long} First.`);
    const again = await ask(`${long} First.`);
    const other = await ask(`${long} Second.`);
    expect(cachedIn(first)).toBe(0);
    const { prompt_tokens } = again.usage;
    expect(cachedIn(again)).toBe(16 * Math.floor((prompt_tokens - 1) / 16));
    expect(cachedIn(other)).toBeGreaterThan(64);
    expect(cachedIn(other)! % 16).toBe(0);
    expect(again.choices).toEqual(first.choices);
    expect(await metric("vllm:prefix_cache_hits_total")).toBeGreaterThan(0);
    expect(await metric("vllm:prefix_cache_queries_total")).toBeGreaterThan(
      await metric("vllm:prefix_cache_hits_total"),
    );
  });

  test("is another tenant's never, nor another adapter's", async () => {
    const text = `${long} Whose?`;
    expect(cachedIn(await ask(text, {}, tenant("a")))).toBe(0);
    expect(cachedIn(await ask(text, {}, tenant("b")))).toBe(0);
    expect(cachedIn(await ask(text, { model: "banking-intent" }, tenant("a")))).toBe(0);
    expect(cachedIn(await ask(text, {}, tenant("a")))).toBeGreaterThan(0);
  });

  test("counts once for several choices, as what none of them had to compute", async () => {
    const text = `${long} Several.`;
    const first = await ask(text, { n: 3 }, tenant("n"));
    expect(cachedIn(first)).toBe(0);
    const again = await ask(text, { n: 3 }, tenant("n"));
    expect(cachedIn(again)).toBeGreaterThan(0);
  });

  test("was computed by the weights that have the name now", async () => {
    const text = `${long} Reloaded.`;
    const named = { model: "tone-formal", max_tokens: 24 };
    await load("tone-formal");
    const formal = await ask(text, named);
    await unload("tone-formal");
    await load("tone-formal", { lora_path: "support-triage" });
    const triage = await ask(text, named);
    expect(cachedIn(triage)).toBe(0);
    expect(triage.choices[0]?.message.content).not.toBe(formal.choices[0]?.message.content);
    await unload("tone-formal");
  });
});

test("a repetition penalty is taken from the request, and 1 is none", async () => {
  const fields = {
    model: "support-tiny",
    messages: question("Tell me about my order"),
    max_tokens: 40,
  };
  const text = async (more: Fields) =>
    (await chat({ ...fields, ...more })).choices[0]?.message.content;
  const plain = await text({});
  expect(await text({ repetition_penalty: 1 })).toBe(plain);
  // So much that hardly anything of the question comes back: the demo model is sure of its answers.
  expect(await text({ repetition_penalty: 100 })).not.toBe(plain);
});

withGoldens(
  "log-probabilities are the reference's, of every token and the likeliest, also on a stream",
  async () => {
    const path = new URL("../../shared/fixtures/tiny/goldens/base.json", import.meta.url);
    const { goldens } = JSON.parse(await readFile(path, "utf8"));
    let compared = 0;
    for (const one of goldens) {
      const ends = one.greedy_ids.at(-1) === 2;
      const expected = ends ? one.greedy_logprobs.slice(0, -1) : one.greedy_logprobs;
      const fields = { model: "support-tiny", messages: one.messages, max_tokens: 48 };
      const asked = { ...fields, temperature: 0, logprobs: true, top_logprobs: 3 };
      const { choices } = await client.chat.completions.create(asked);
      const content = choices[0]?.logprobs?.content ?? [];
      const found = content.map(({ logprob }) => logprob);
      if (Math.min(...one.greedy_margin_to_second) < 0.01) continue;
      compared += found.length;
      expect(found.length).toBe(expected.length);
      found.forEach((logprob, index) => {
        expect(Math.abs(logprob - expected[index])).toBeLessThan(1e-3);
      });
      // The first token's three likeliest, by the reference's logits.
      const { top20_logits, logsumexp } = one.next_token;
      content[0]?.top_logprobs.forEach(({ logprob }, index) => {
        expect(Math.abs(logprob - (top20_logits[index] - logsumexp))).toBeLessThan(1e-3);
      });
      for (const { token, logprob, top_logprobs } of content) {
        expect(top_logprobs.length).toBe(3);
        expect(top_logprobs[0]).toMatchObject({ token, logprob });
      }
      const bytes = content.flatMap((token) => token.bytes ?? []);
      expect(Buffer.from(bytes).toString()).toBe(choices[0]?.message.content);

      const streamed = [];
      const stream = await client.chat.completions.create({ ...asked, stream: true });
      for await (const chunk of stream) {
        streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
      }
      expect(streamed).toEqual(content);
    }
    expect(compared).toBeGreaterThan(60);
  },
);

test("log-probabilities are those of the model, whatever temperature and penalty choose by", async () => {
  const fields = { model: "support-tiny", messages: question("Hello there"), max_tokens: 1 };
  const first = async (more: Fields) =>
    (await chat({ ...fields, logprobs: true, top_logprobs: 5, ...more })).choices[0]?.logprobs
      ?.content[0];
  const plain = await first({});
  const hot = await first({ temperature: 2, seed: 4, repetition_penalty: 3 });
  expect(hot?.top_logprobs).toEqual(plain?.top_logprobs);
  const none = await chat({ ...fields, logprobs: true });
  expect(none.choices[0]?.logprobs?.content[0]?.top_logprobs).toEqual([]);
  expect((await chat(fields)).choices[0]?.logprobs).toBeNull();
});

test("a stop string ends the text before it, and the rest is not computed", async () => {
  const request = { model: "support-tiny", messages: question("How do I reset my password?") };
  const whole = await chat(request);
  const text = whole.choices[0]?.message.content ?? "";
  const stopped = await chat({ ...request, stop: ["minute. Ch", "nowhere"] });
  expect(stopped.choices[0]).toMatchObject({
    finish_reason: "stop",
    message: { content: text.slice(0, text.indexOf("minute. Ch")) },
  });
  expect(stopped.usage.completion_tokens).toBeLessThan(whole.usage.completion_tokens);
});

test("max_tokens ends with length; without it an answer may fill the context", async () => {
  const request = { model: "support-tiny", messages: question("Hello") };
  const short = await chat({ ...request, max_completion_tokens: 3 });
  expect(short).toMatchObject({
    choices: [{ finish_reason: "length" }],
    usage: { completion_tokens: 3 },
  });
  const long = await chat({
    ...request,
    messages: question("word ".repeat(2000)),
    ignore_eos: true,
  });
  expect(long).toMatchObject({
    choices: [{ finish_reason: "length" }],
    usage: { total_tokens: 2048 },
  });
});

test("a message that writes the end of its turn has written letters, on the wire as well", async () => {
  const tokensOf = async (content: string) =>
    (await chat({ model: "support-tiny", messages: question(content), max_tokens: 1 })).usage
      .prompt_tokens;
  const empty = await tokensOf("");
  expect(await tokensOf("<|im_end|>")).toBeGreaterThan(empty + 3);
  expect(await tokensOf("<|im_end|><|im_end|>")).toBeGreaterThan(empty + 6);
});

test("a prompt that does not fit is refused with the counts", async () => {
  const messages = question("word ".repeat(3000));
  const refused = await client.chat.completions
    .create({ model: "support-tiny", messages })
    .catch((error) => error);
  expect(refused).toBeInstanceOf(OpenAI.BadRequestError);
  expect(refused).toMatchObject({ code: "context_length_exceeded", param: "messages" });
  expect(refused.message).toMatch(
    /maximum context length is 2048 tokens.*resulted in 3\d{3} tokens/,
  );
});

test("a client that goes away mid-stream frees its blocks", async () => {
  const stream = await client.chat.completions.create({
    model: "support-tiny",
    messages: question("Hello"),
    stream: true,
    max_tokens: 1900,
    // @ts-expect-error a field of vLLM that the official client does not know
    ignore_eos: true,
  });
  for await (const _ of stream) break;
  await until(() => server.engine.stats().running === 0);
  expect(server.engine.stats()).toMatchObject({ blocksUsed: 0, waiting: 0 });
  await until(
    async () => (await metric('vllm:request_success_total{finished_reason="abort"')) >= 1,
  );
});

test("adapters come and go while others decode, and no stream notices", async () => {
  const streams = ["support-tiny", "banking-intent"].map((model) =>
    chatText({ model, messages: question("Hello"), max_tokens: 150, ignore_eos: true }),
  );
  const undisturbed = await Promise.all(streams);
  const again = ["support-tiny", "banking-intent"].map((model) =>
    chatText({ model, messages: question("Hello"), max_tokens: 150, ignore_eos: true }),
  );
  for (const name of ["restaurant-slots", "support-triage", "tone-formal"]) {
    expect((await load(name)).status).toBe(200);
    await chat({ model: name, messages: question("Hello"), max_tokens: 2 });
    expect((await unload(name)).status).toBe(200);
  }
  expect(await Promise.all(again)).toEqual(undisturbed);
});

test("new weights under an old name are another adapter, also for who asks by digest", async () => {
  const request = { messages: question("Triage this message: it broke"), max_tokens: 24 };
  await load("changing", { lora_path: "support-triage" });
  const before = await chatText({ ...request, model: "changing" });
  await load("changing", { lora_path: "tone-formal", load_inplace: true });
  const after = await chatText({ ...request, model: "changing" });
  expect(after).not.toBe(before);
  expect(
    await chatText({ ...request, model: `support-tiny@sha256-${digests["support-triage"]}` }),
  ).toBe(before);
  await unload("changing");
});

test("loading answers with vLLM's status codes and texts", async () => {
  expect(await (await load("a0", { lora_path: "tone-formal" })).text()).toBe(
    "Success: LoRA adapter 'a0' added successfully.",
  );
  expect(await errorOf(await load("a0", { lora_path: "tone-formal" }))).toEqual({
    status: 400,
    message:
      "The lora adapter 'a0' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.",
    type: "InvalidUserInput",
    param: null,
    code: 400,
  });
  expect((await load("a0", { lora_path: "tone-formal", load_inplace: true })).status).toBe(200);
  expect(await errorOf(await load("support-tiny", { lora_path: "tone-formal" }))).toMatchObject({
    status: 400,
    message: "The lora adapter 'support-tiny' conflicts with a served base model.",
  });
  expect(await errorOf(await load("nope", { lora_path: "does-not-exist" }))).toMatchObject({
    status: 404,
    message: "Loading lora nope failed: No adapter found for does-not-exist",
    type: "NotFoundError",
    code: 404,
  });
  expect(await errorOf(await post("/v1/load_lora_adapter", { lora_name: "a1" }))).toMatchObject({
    status: 400,
    message:
      "1 validation error:\n  {'type': 'missing', 'loc': 'body.lora_path', 'msg': 'Field required', 'input': '<dict of 1 items>'}",
    param: "body.lora_path",
  });
  expect(await errorOf(await load("a1", { lora_path: "" }))).toMatchObject({
    message: "Both 'lora_name' and 'lora_path' must be provided.",
  });
  expect(await (await unload("a0")).text()).toBe(
    "Success: LoRA adapter 'a0' removed successfully.",
  );
  expect(await errorOf(await unload("a0"))).toMatchObject({
    status: 404,
    message: "The lora adapter 'a0' cannot be found.",
    type: "NotFoundError",
  });
  expect(await errorOf(await unload(""))).toMatchObject({
    status: 400,
    message: "'lora_name' needs to be provided to unload a LoRA adapter.",
  });
});

test("an adapter outside of the allowed folders is not found, whichever way its path is written", async () => {
  const outside = await mkdtemp(join(tmpdir(), "outside-"));
  await symlink(join(demo, "adapters", "tone-formal"), join(outside, "link"));
  for (const path of [
    join(demo, "base"),
    "../base",
    outside,
    join(outside, "missing"),
    "/etc/passwd",
  ]) {
    expect((await load("x", { lora_path: path })).status).toBe(404);
  }
  // A link is judged by where it leads.
  expect((await load("linked", { lora_path: join(outside, "link") })).status).toBe(200);
  await unload("linked");
  await rm(outside, { recursive: true });
});

test("models are listed as vLLM lists them, and found one by one", async () => {
  const { data } = await client.models.list();
  expect(data).toMatchObject([
    { id: "support-tiny", parent: null, max_model_len: 2048 },
    { id: "banking-intent", parent: "support-tiny", max_model_len: null },
  ]);
  expect(await client.models.retrieve("banking-intent")).toMatchObject({ object: "model" });
  await expect(client.models.retrieve("org/unknown")).rejects.toBeInstanceOf(OpenAI.NotFoundError);
});

test("what does not exist, or is not the caller's to ask for, is not found", async () => {
  const messages = question("Hi");
  for (const model of [
    "unknown",
    "support-tiny:unknown",
    "other-base:banking-intent",
    `support-tiny@sha256-${"0".repeat(64)}`,
  ]) {
    const answer = await errorOf(await post("/v1/chat/completions", { model, messages }));
    expect(answer).toMatchObject({ status: 404, code: "model_not_found", param: "model" });
  }
  const byDigest = { model: `support-tiny@sha256-${digests["tone-formal"]}`, messages };
  expect(await errorOf(await post("/v1/chat/completions", byDigest, apiKey))).toMatchObject({
    status: 404,
  });
});

test("who comes first is the operator's to say, and how long an answer is of use everybody's", async () => {
  const request = {
    model: "support-tiny",
    messages: question("Hi"),
    max_tokens: 2,
    temperature: 0,
  };
  const ask = (fields: Fields, key: string, headers: Record<string, string> = {}) =>
    post("/v1/chat/completions", { ...request, ...fields }, key, headers);
  const timeout = (ms: string) => ({ "x-switchyard-timeout-ms": ms });
  expect((await ask({ priority: -10 }, operatorKey)).status).toBe(200);
  expect((await ask({ priority: 0 }, apiKey)).status).toBe(200);
  expect(await errorOf(await ask({ priority: -1 }, apiKey))).toMatchObject({
    ...{ status: 403, code: "permission_denied", param: "priority" },
  });
  expect(await errorOf(await ask({ priority: 11 }, operatorKey))).toMatchObject({ status: 400 });
  expect((await ask({}, apiKey, timeout("60000"))).status).toBe(200);
  const long = { max_tokens: 400, ignore_eos: true };
  expect(await errorOf(await ask(long, apiKey, timeout("1")))).toMatchObject({
    ...{ status: 504, code: "deadline_exceeded" },
  });
  expect(await errorOf(await ask({}, apiKey, timeout("soon")))).toMatchObject({
    ...{ status: 400, param: "x-switchyard-timeout-ms" },
  });
});

test("keys are asked for: the operator's for adapters, any for answers", async () => {
  const load = { lora_name: "a", lora_path: "tone-formal" };
  expect(await errorOf(await post("/v1/load_lora_adapter", load, apiKey))).toMatchObject({
    status: 401,
    code: "invalid_api_key",
  });
  const chat = { model: "support-tiny", messages: question("Hi"), max_tokens: 1 };
  expect(await errorOf(await post("/v1/chat/completions", chat, "wrong"))).toMatchObject({
    status: 401,
    code: "invalid_api_key",
  });
  const bare = await server.app.fetch(new Request("http://test/v1/models"));
  expect(await errorOf(bare)).toMatchObject({ status: 401, code: "missing_api_key" });
  expect((await server.app.fetch(new Request("http://test/health"))).status).toBe(200);
});

test("what we do not compute is refused by its name, and harmless fields pass", async () => {
  const base = { model: "support-tiny", messages: question("Hi"), max_tokens: 1 };
  const refused: Record<string, unknown> = {
    tools: [{ type: "function", function: { name: "f" } }],
    chat_template: "{{ messages }}",
    use_beam_search: true,
    length_penalty: 0.5,
    echo: true,
    best_of: 2,
  };
  for (const [field, value] of Object.entries(refused)) {
    const answer = await errorOf(await post("/v1/chat/completions", { ...base, [field]: value }));
    expect(answer).toMatchObject({ status: 400, code: "unsupported_parameter", param: field });
  }
  const image = [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:" } }] }];
  expect(
    await errorOf(await post("/v1/chat/completions", { ...base, messages: image })),
  ).toMatchObject({
    code: "unsupported_parameter",
    param: "messages[0].content[0].type",
  });
  const harmless = {
    tools: [],
    tool_choice: "auto",
    logprobs: false,
    response_format: { type: "text" },
    user: "u",
    store: false,
    frequency_penalty: 0,
    metadata: { team: "a" },
    parallel_tool_calls: true,
    stream_options: { include_usage: true },
    verbosity: null,
  };
  // An answer of before comes back as a client got it.
  const history = [
    ...question("Hi"),
    { role: "assistant", content: "Hello", refusal: null, tool_calls: [], annotations: [] },
    ...question("Bye"),
  ];
  expect((await post("/v1/chat/completions", { ...base, messages: history })).status).toBe(200);
  expect((await post("/v1/chat/completions", { ...base, ...harmless })).status).toBe(200);
});

test("a parameter that nobody knows is refused by its name, and so is what a message is not text of", async () => {
  const base = { model: "support-tiny", messages: question("Hi"), max_tokens: 1 };
  const call = { id: "c", type: "function", function: { name: "f", arguments: "{}" } };
  const refused: [Fields, string, string][] = [
    [{ ...base, temprature: 0.2 }, "invalid_value", "temprature"],
    [
      { ...base, stream_options: { include_usages: true } },
      "invalid_value",
      "stream_options.include_usages",
    ],
    [
      { ...base, messages: [{ role: "assistant", content: null, tool_calls: [call] }] },
      "unsupported_parameter",
      "messages[0].tool_calls",
    ],
    [
      { ...base, messages: [{ role: "user", content: "Hi", name: "ann" }] },
      "unsupported_parameter",
      "messages[0].name",
    ],
  ];
  for (const [body, code, param] of refused) {
    expect(await errorOf(await post("/v1/chat/completions", body))).toMatchObject({
      status: 400,
      code,
      param,
    });
  }
});

test("wrong requests name the field", async () => {
  const base = { model: "support-tiny", messages: question("Hi") };
  const cases: [Fields, string, string][] = [
    [{ ...base, messages: undefined }, "missing_required_parameter", "messages"],
    [{ ...base, temperature: "hot" }, "invalid_type", "temperature"],
    [{ ...base, temperature: 3 }, "number_out_of_range", "temperature"],
    [{ ...base, n: 99 }, "number_out_of_range", "n"],
    [{ ...base, logprobs: true, top_logprobs: 21 }, "number_out_of_range", "top_logprobs"],
    [{ ...base, top_logprobs: 2 }, "invalid_value", "top_logprobs"],
    [{ ...base, repetition_penalty: 0 }, "number_out_of_range", "repetition_penalty"],
    [
      { ...base, messages: [{ role: "user" }] },
      "missing_required_parameter",
      "messages[0].content",
    ],
    [
      { ...base, model: "banking-intent", adapters: [{ model: "banking-intent" }] },
      "invalid_value",
      "model",
    ],
    [
      { ...base, adapters: [{ model: "banking-intent" }, { model: "banking-intent" }] },
      "invalid_value",
      "adapters",
    ],
  ];
  for (const [body, code, param] of cases) {
    expect(await errorOf(await post("/v1/chat/completions", body))).toMatchObject({
      status: 400,
      code,
      param,
    });
  }
  const broken = await server.app.fetch(
    new Request("http://test/v1/chat/completions", {
      method: "POST",
      headers: { authorization: `Bearer ${operatorKey}` },
      body: "{",
    }),
  );
  expect(await errorOf(broken)).toMatchObject({ status: 400, code: "invalid_json" });
  expect(await errorOf(await post("/v1/rerank", {}))).toMatchObject({
    status: 404,
    code: "unknown_url",
  });
});

test("a valid request id of the caller comes back, another is replaced", async () => {
  const id = "req_01jd0000000000000000000000";
  const request = { model: "support-tiny", messages: question("Hi"), max_tokens: 1 };
  const kept = await post("/v1/chat/completions", request, operatorKey, { "x-request-id": id });
  expect(kept.headers.get("x-request-id")).toBe(id);
  const replaced = await post(
    "/v1/chat/completions",
    { model: "unknown", messages: [] },
    operatorKey,
    { "x-request-id": "<script>" },
  );
  expect(replaced.headers.get("x-request-id")).toMatch(/^req_[0-9a-z]{26}$/);
});

test("a stream is framed as the parser of our own protocol reads it, one frame a token", async () => {
  const response = await post("/v1/chat/completions", {
    model: "support-tiny",
    messages: question("Hello"),
    stream: true,
    max_tokens: 8,
    ignore_eos: true,
  });
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const parser = new SseParser();
  const events = [...parser.push(new Uint8Array(await response.arrayBuffer())), ...parser.end()];
  expect(events.at(-1)?.data).toBe("[DONE]");
  const chunks = events.slice(0, -1).map(({ data }) => JSON.parse(data));
  expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
  expect(chunks.filter(({ choices }) => choices[0].finish_reason !== null)).toHaveLength(1);
  expect(chunks.every((chunk) => !("usage" in chunk))).toBe(true);
});

test("metrics carry vLLM's names, and ours by adapter", async () => {
  await chat({ model: "banking-intent", messages: question("Hi"), max_tokens: 2 });
  const text = await (await server.app.fetch(new Request("http://test/metrics"))).text();
  for (const name of [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    'vllm:lora_requests_info{max_lora="2"',
    'switchyard_adapter_requests_total{adapter="banking-intent"',
    'switchyard_adapter_resident{adapter="banking-intent",tier="slot"',
    'switchyard_adapter_resident{adapter="banking-intent",tier="host"',
    'switchyard_adapter_resident{adapter="banking-intent",tier="disk"',
    'switchyard_adapter_load_seconds_bucket{le="0.01",engine="0",model_name="support-tiny",tier="host"}',
    'switchyard_adapter_loads_total{adapter="banking-intent",tier="folder"',
    "switchyard_adapter_evictions_total{adapter=",
    'switchyard_adapter_request_seconds_total{adapter="banking-intent"',
    'switchyard_adapter_wait_seconds_total{adapter="banking-intent"',
  ]) {
    expect(text).toContain(name);
  }
  expect(text).toContain('model_name="support-tiny"');
});

test("a model's card tells what an adapter is and where, and the audit log who loaded it", async () => {
  await load("where", { lora_path: "tone-formal" });
  const digest = digests["tone-formal"];
  const card = async () => {
    const { data } = (await (await get("/v1/models")).json()) as { data: Fields[] };
    return data.find(({ id }) => id === "where");
  };
  await chat({ model: "where", messages: question("Hi"), max_tokens: 1 });
  await until(async () => {
    const { residency } = (await card()) as { residency: Fields };
    return residency.slot === true;
  });
  expect(await card()).toMatchObject({
    digest,
    pinned: false,
    residency: { slot: true, host: true, disk: true },
  });
  await unload("where");
  const by = expect.stringMatching(/^operator, req_/);
  expect(events.filter((event) => "name" in event && event.name === "where")).toEqual([
    { type: "named", name: "where", digest, before: undefined, by },
    { type: "unnamed", name: "where", digest, by },
  ]);
  expect(await card()).toBe(undefined);
});

async function metric(start: string): Promise<number> {
  const text = await (await server.app.fetch(new Request("http://test/metrics"))).text();
  const line = text.split("\n").find((one) => one.startsWith(start));
  return Number(line?.split(" ").at(-1) ?? Number.NaN);
}
