/** `/metrics` after real requests: vLLM's recorded series are there with their types, and what they count is so. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { type AdapterServer, createAdapterServer } from "../server.ts";
import recording from "./__fixtures__/vllm-0.32.json" with { type: "json" };

/** What vLLM 0.32 tells and we do not, and why. */
const absent: Record<string, string> = {
  "vllm:estimated_flops_per_gpu_total": "an estimate for GPUs",
  "vllm:estimated_read_bytes_per_gpu_total": "an estimate for GPUs",
  "vllm:estimated_write_bytes_per_gpu_total": "an estimate for GPUs",
  "vllm:external_prefix_cache_queries_total": "no cache is shared with other servers",
  "vllm:external_prefix_cache_hits_total": "no cache is shared with other servers",
  "vllm:mm_cache_queries_total": "models take text alone",
  "vllm:mm_cache_hits_total": "models take text alone",
  "vllm:prompt_tokens_cached_by_source_total":
    "there is one tier of cache; prompt_tokens_by_source has it",
};

/** What the Gateway API Inference Extension, llm-d's router and vLLM's Grafana dashboards read. */
const readByOthers = [
  "vllm:num_requests_running",
  "vllm:num_requests_waiting",
  "vllm:kv_cache_usage_perc",
  "vllm:lora_requests_info",
  "vllm:cache_config_info",
  "vllm:prefix_cache_queries_total",
  "vllm:prefix_cache_hits_total",
  "vllm:e2e_request_latency_seconds",
  "vllm:time_to_first_token_seconds",
  "vllm:inter_token_latency_seconds",
  "vllm:request_time_per_output_token_seconds",
  "vllm:request_queue_time_seconds",
  "vllm:request_prefill_time_seconds",
  "vllm:request_decode_time_seconds",
  "vllm:request_inference_time_seconds",
  "vllm:request_prompt_tokens",
  "vllm:request_generation_tokens",
  "vllm:request_max_num_generation_tokens",
  "vllm:prompt_tokens_total",
  "vllm:generation_tokens_total",
  "vllm:request_success_total",
  "vllm:num_preemptions_total",
  "vllm:iteration_tokens_total",
];

type Sample = { name: string; labels: Record<string, string>; value: number };

let dataDir: string;
let server: AdapterServer;
let text: string;
let samples: Sample[];
const shared = "Hello, who is there?";
const prompts = [
  "My card was charged twice for one order",
  "My card was charged twice for one order",
];

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "metrics-"));
  server = await createAdapterServer({
    model: { id: "support-tiny", folder: join(demoFolder, "base") },
    format: "f32",
    dataDir,
    operatorKey: "operator-key-of-the-test",
    adapterFolders: [join(demoFolder, "adapters")],
    limits: { adapterSlots: 2, kvCacheTokens: 1024, sequencesMax: 4, speculationTokensMax: 0 },
    threads: 1,
    version: "test",
    onFault: (message, cause) => {
      throw new Error(message, { cause });
    },
  });
  const name = "banking-intent";
  await post("/v1/load_lora_adapter", { lora_name: name, lora_path: name });
  // One after the other, so that the second finds the first one's prompt.
  for (const prompt of prompts) await complete({ prompt: prompt.repeat(4), max_tokens: 6 });
  await complete({
    model: name,
    prompt: shared,
    max_tokens: 5,
    n: 2,
    temperature: 1,
  });
  await post("/v1/embeddings", { model: "support-tiny", input: ["a text", "and one more"] });
  await read();
});
afterAll(async () => {
  await server?.close();
  await rm(dataDir, { recursive: true, force: true });
});

test("every series that vLLM was recorded with is here with its type and labels, or its absence has a reason", () => {
  const missing: string[] = [];
  for (const { name, type, labels } of recording.series) {
    const isHere = text.includes(`# TYPE ${name} `);
    expect({ name, isHere }).toEqual({ name, isHere: !(name in absent) });
    if (!isHere) {
      missing.push(name);
      continue;
    }
    expect({ name, told: new RegExp(`^# TYPE ${name} (\\w+)$`, "m").exec(text)?.[1] }).toEqual({
      name,
      told: type,
    });
    const own = samples.filter(
      (one) => one.name.replace(/_(bucket|sum|count)$/, "") === name || one.name === name,
    );
    expect({
      name,
      labels: own.map((one) =>
        Object.keys(one.labels)
          .filter((label) => label !== "le")
          .sort(),
      )[0],
    }).toEqual({
      name,
      // vLLM's front leaves the engine out where a request never got to one.
      labels: [...new Set([...labels, "engine", "model_name"])].sort(),
    });
  }
  expect(missing.sort()).toEqual(Object.keys(absent).sort());
});

test("what routers and dashboards read is here", () => {
  for (const name of readByOthers) expect(text).toContain(`# TYPE ${name} `);
  const [cache] = samples.filter(({ name }) => name === "vllm:cache_config_info");
  expect(cache).toMatchObject({ value: 1, labels: { block_size: "16", num_gpu_blocks: "64" } });
});

test("tokens and requests are counted once, whatever they are counted by", async () => {
  const generated = 6 + 6 + 5 + 5;
  expect(sum("vllm:request_generation_tokens_sum")).toBe(generated);
  expect(sum("vllm:generation_tokens_total")).toBe(generated);
  expect(sum("switchyard_adapter_generation_tokens_total")).toBe(generated);
  const promptTokens = sum("vllm:prompt_tokens_total");
  expect(promptTokens).toBeGreaterThan(0);
  expect(sum("vllm:prompt_tokens_by_source_total")).toBe(promptTokens);
  expect(sum("vllm:request_prompt_tokens_sum")).toBe(promptTokens);
  expect(sum("switchyard_adapter_prompt_tokens_total")).toBe(promptTokens);
  const cached = sum("vllm:prompt_tokens_cached_total");
  expect(cached).toBeGreaterThan(0);
  expect(sum("vllm:prompt_tokens_by_source_total", { source: "local_cache_hit" })).toBe(cached);
  expect(sum("vllm:request_prefill_kv_computed_tokens_sum")).toBe(promptTokens - cached);
  // Every token but each choice's last is computed in a step, the prompt's uncached ones as well.
  const choices = 4;
  const computed = promptTokens - cached + generated - choices;
  // What steps computed is told a moment after what came of them.
  const inSteps = async () => {
    await read();
    return sum("vllm:iteration_tokens_total_sum");
  };
  // Two choices share their prompt, unless the second comes when the first has computed it.
  const { count } = (await (await post("/tokenize", { prompt: shared })).json()) as {
    count: number;
  };
  await expect.poll(inSteps).toBeOneOf([computed, computed + count]);
  expect(sum("vllm:request_success_total")).toBe(4);
  expect(sum("vllm:request_params_n_sum")).toBe(1 + 1 + 2 + 1);
});

test("a request's time is its parts': in the queue, to its first token, to its last", () => {
  const [queue, prefill, decode, inference, whole] = [
    "vllm:request_queue_time_seconds_sum",
    "vllm:request_prefill_time_seconds_sum",
    "vllm:request_decode_time_seconds_sum",
    "vllm:request_inference_time_seconds_sum",
    "vllm:e2e_request_latency_seconds_sum",
  ].map((name) => sum(name)) as [number, number, number, number, number];
  expect(prefill + decode).toBeCloseTo(inference, 6);
  expect(inference).toBeGreaterThan(0);
  // Two choices, and two texts, run at one time, so the sum over sequences is at most twice that over requests.
  expect(queue + inference).toBeLessThanOrEqual(2 * whole);
  const engine = sum("switchyard_adapter_engine_seconds_total");
  expect(engine).toBeCloseTo(inference, 6);
  expect(sum("switchyard_adapter_queue_seconds_total")).toBeCloseTo(queue, 6);
});

function sum(name: string, labels: Record<string, string> = {}): number {
  const own = samples.filter(
    (one) =>
      one.name === name &&
      Object.entries(labels).every(([key, value]) => one.labels[key] === value),
  );
  return own.reduce((total, { value }) => total + value, 0);
}

async function read(): Promise<void> {
  text = await (await server.app.fetch(new Request("http://test/metrics"))).text();
  samples = [...text.matchAll(/^([\w:]+)\{(.*)\} (\S+)$/gm)].map(
    ([, name = "", labels = "", value]) => ({
      name,
      labels: Object.fromEntries(
        [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, said]) => [key, said]),
      ),
      value: Number(value),
    }),
  );
}

async function complete(fields: Record<string, unknown>): Promise<void> {
  const body = { model: "support-tiny", temperature: 0, ignore_eos: true, ...fields };
  expect((await post("/v1/completions", body)).status).toBe(200);
}

function post(path: string, body: unknown): Promise<Response> {
  const headers = {
    authorization: "Bearer operator-key-of-the-test",
    "content-type": "application/json",
  };
  const init = { method: "POST", headers, body: JSON.stringify(body) };
  return Promise.resolve(server.app.fetch(new Request(`http://test${path}`, init)));
}
