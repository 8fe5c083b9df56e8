/** LoRAX's routes over the real engine and the demo model. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { createTokenizer, type Tokenizer } from "../models/tokenizer.ts";
import { type AdapterServer, createAdapterServer } from "../server.ts";

const operatorKey = "operator-key-of-the-test";
const inputs = "My card was charged twice";
let dataDir: string;
let server: AdapterServer;
let tokenizer: Tokenizer;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "lorax-"));
  server = await createAdapterServer({
    model: { id: "support-tiny", folder: join(demoFolder, "base") },
    format: "f32",
    dataDir,
    operatorKey,
    adapterFolders: [join(demoFolder, "adapters")],
    limits: { adapterSlots: 3, kvCacheTokens: 2048, sequencesMax: 4 },
    threads: 2,
    version: "test",
    onFault: (message, cause) => {
      throw new Error(message, { cause });
    },
  });
  tokenizer = createTokenizer(server.model.tokenizer);
  for (const name of ["banking-intent", "tone-formal"]) {
    await post("/v1/load_lora_adapter", { lora_name: name, lora_path: name });
  }
});
afterAll(async () => {
  await server?.close();
  await rm(dataDir, { recursive: true, force: true });
});

type Fields = Record<string, unknown>;
type LoraxToken = {
  id: number;
  text: string;
  logprob: number;
  special: boolean;
  alternative_tokens: unknown[] | null;
};
type Details = {
  finish_reason: string;
  prompt_tokens: number;
  generated_tokens: number;
  seed: number | null;
  prefill: { id: number; text: string; logprob: number | null }[];
  tokens: LoraxToken[];
  best_of_sequences?: { generated_text: string; tokens: LoraxToken[] }[];
};
type Generation = { generated_text: string; details?: Details };

function post(path: string, body: unknown): Promise<Response> {
  const headers = { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" };
  const init = { method: "POST", headers, body: JSON.stringify(body) };
  return Promise.resolve(server.app.fetch(new Request(`http://test${path}`, init)));
}

async function generate(parameters: Fields = {}): Promise<Generation> {
  const response = await post("/generate", {
    inputs,
    parameters: { max_new_tokens: 12, ...parameters },
  });
  expect(response.status).toBe(200);
  return (await response.json()) as Generation;
}

async function complete(fields: Fields): Promise<string> {
  const body = { model: "support-tiny", prompt: inputs, max_tokens: 12, temperature: 0, ...fields };
  const answer = (await (await post("/v1/completions", body)).json()) as {
    choices: { text: string }[];
  };
  return answer.choices[0]!.text;
}

test("the base, an adapter and an exact mix continue a prompt as OpenAI's route does", async () => {
  expect((await generate()).generated_text).toBe(await complete({}));
  const adapted = await generate({ adapter_id: "banking-intent", adapter_source: "local" });
  expect(adapted.generated_text).toBe(await complete({ model: "banking-intent" }));
  const merged = { ids: ["banking-intent", "tone-formal"], weights: [0.7, 0.3], density: 1 };
  const adapters = [
    { model: "banking-intent", weight: 0.7 },
    { model: "tone-formal", weight: 0.3 },
  ];
  const expected = await complete({ adapters });
  expect((await generate({ merged_adapters: merged })).generated_text).toBe(expected);
  const { ids: adapter_ids, ...rest } = merged;
  const written = { adapter_parameters: { ...rest, adapter_ids, merge_strategy: "linear" } };
  expect((await generate(written)).generated_text).toBe(expected);
});

test("details tell each token, how likely it was, what else was, and the prompt's tokens", async () => {
  const { generated_text, details } = await generate({
    details: true,
    decoder_input_details: true,
    return_k_alternatives: 3,
    return_full_text: true,
  });
  const { tokens, prefill, ...rest } = details!;
  expect(
    inputs +
      tokens
        .filter((one) => !one.special)
        .map(({ text }) => text)
        .join(""),
  ).toBe(generated_text);
  for (const one of tokens) {
    expect(one.logprob).toBeLessThanOrEqual(0);
    expect(one.alternative_tokens).toHaveLength(3);
    // Nothing was drawn, so the likeliest was taken.
    expect(one.alternative_tokens![0]).toMatchObject({ id: one.id, logprob: one.logprob });
  }
  const ids = tokenizer.encode(inputs, { addSpecialTokens: true });
  expect(prefill.map(({ id }) => id)).toEqual(ids);
  expect(prefill[0]?.logprob).toBeNull();
  expect(prefill.slice(1).every(({ logprob }) => logprob !== null && logprob <= 0)).toBe(true);
  expect(rest).toEqual({
    finish_reason: "length",
    prompt_tokens: ids.length,
    generated_tokens: tokens.length,
    seed: null,
  });
});

test("an answer ends with its end token, or with a stop string that stays in it", async () => {
  const chat = "<|im_start|>user\nMy card was stolen<|im_end|>\n<|im_start|>assistant\n";
  const parameters = { adapter_id: "banking-intent", max_new_tokens: 200, details: true };
  const response = await post("/generate", { inputs: chat, parameters });
  const { details } = (await response.json()) as Generation;
  expect(details).toMatchObject({ finish_reason: "eos_token" });
  expect(details!.tokens.at(-1)).toMatchObject({ special: true, text: "<|im_end|>" });
  const { generated_text } = await generate({ max_new_tokens: 12 });
  const stop = generated_text.slice(3, 8);
  const stopped = await generate({ stop: [stop], details: true });
  expect(stopped.details?.finish_reason).toBe("stop_sequence");
  expect(stopped.generated_text.endsWith(stop)).toBe(true);
});

test("a stream's tokens are the text's, and its last one tells how it ended", async () => {
  const parameters = { max_new_tokens: 12 };
  const whole = await generate();
  for (const [path, extra] of [
    ["/generate_stream", {}],
    ["/", { stream: true }],
  ] as const) {
    const response = await post(path, { inputs, parameters, ...extra });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const events = (await response.text())
      .split("\n\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line.replace(/^data:/, "")) as Generation & { token: LoraxToken });
    expect(events.map(({ token }) => token.text).join("")).toBe(whole.generated_text);
    expect(events.slice(0, -1).every(({ generated_text }) => generated_text === null)).toBe(true);
    expect(events.at(-1)).toMatchObject({
      generated_text: whole.generated_text,
      details: { finish_reason: "length", generated_tokens: 12 },
    });
  }
  const list = (await (await post("/", { inputs, parameters })).json()) as Generation[];
  expect(list).toEqual([whole]);
});

test("of several sequences the likeliest is the answer; a seed draws the same again", async () => {
  const { details } = await generate({ best_of: 3, temperature: 1, details: true });
  const score = (tokens: LoraxToken[]) => tokens.reduce((sum, { logprob }) => sum + logprob, 0);
  const others = details!.best_of_sequences!.map(({ tokens }) => score(tokens));
  expect(others).toHaveLength(2);
  expect(score(details!.tokens)).toBeGreaterThanOrEqual(Math.max(...others));
  const drawn = await generate({ do_sample: true, details: true });
  const again = await generate({ do_sample: true, seed: drawn.details!.seed, details: true });
  expect(again).toEqual(drawn);
});

test("an output has the form that is asked for, in LoRAX's words and in text-generation-inference's", async () => {
  const schema = {
    type: "object",
    properties: { label: { enum: ["lost", "charge"] }, sure: { type: "boolean" } },
    required: ["label", "sure"],
    additionalProperties: false,
  };
  for (const form of [
    { response_format: { type: "json_object", schema } },
    { grammar: { type: "json", value: schema } },
  ]) {
    const { generated_text, details } = await generate({
      ...form,
      max_new_tokens: 60,
      details: true,
    });
    expect(details?.finish_reason).toBe("eos_token");
    expect(JSON.parse(generated_text)).toEqual({
      label: expect.stringMatching(/^(lost|charge)$/),
      sure: expect.any(Boolean),
    });
  }
  const matched = await generate({ grammar: { type: "regex", value: "[a-f]{3}-[0-9]{2}" } });
  expect(matched.generated_text).toMatch(/^[a-f]{3}-[0-9]{2}$/);
});

test.each([
  [{ typical_p: 0.5 }, "typical_p"],
  [{ watermark: true }, "watermark"],
  [{ adapter_id: "x", adapter_source: "hub" }, "adapter_source"],
  [{ adapter_id: "x", adapter_source: "s3" }, "adapter_source"],
  [
    { merged_adapters: { ids: ["banking-intent"], weights: [1], merge_strategy: "ties" } },
    "merge_strategy",
  ],
  [{ merged_adapters: { ids: ["banking-intent"], weights: [1, 2] } }, "weight for each"],
  [{ best_of: 2 }, "best_of"],
  [{ best_of: 2, temperature: 1, seed: 1 }, "best_of"],
  [{ max_new_tokens: 0 }, "max_new_tokens"],
  [{ tempreture: 1 }, "tempreture"],
])("%j is refused as LoRAX's clients know it", async (parameters, word) => {
  const response = await post("/generate", { inputs, parameters });
  const body = (await response.json()) as { error: string; error_type: string };
  expect({ status: response.status, type: body.error_type }).toEqual({
    status: 422,
    type: "validation",
  });
  expect(body.error).toContain(word);
});

test("an adapter that nobody loaded is not found, nor any file by its path", async () => {
  for (const adapter_id of ["nobody", "../adapters/tone-formal", "/etc/passwd", "org/adapter"]) {
    const response = await post("/generate", { inputs, parameters: { adapter_id } });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error_type: "model_not_found" });
  }
});

test("what the server can is told at /info", async () => {
  const headers = { authorization: `Bearer ${operatorKey}` };
  const response = await server.app.fetch(new Request("http://test/info", { headers }));
  expect(await response.json()).toMatchObject({ model_id: "support-tiny", max_total_tokens: 2048 });
});
