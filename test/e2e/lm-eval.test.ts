/** EleutherAI's lm-eval, unchanged, against an adapter-server: its scores are the float32 reference's. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  demoFolder,
  demoGoldens,
  type Golden,
} from "../../adapter-server/__fixtures__/demo-model.ts";
import { baseId, openTestServer, operatorKey, type TestServer } from "../support/adapter-server.ts";
import { findLmEval } from "../support/optional-parts.ts";

const python = await findLmEval();

let server: TestServer;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lm-eval-"));
  server = await openTestServer({ limits: { kvCacheTokens: 8192 } });
  const adapter = "support-triage";
  await server.post("/v1/load_lora_adapter", { lora_name: adapter, lora_path: adapter });
});
afterAll(async () => {
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

type Row = { prompt: string; answer: string; said: string };
type Rendered = Golden & { rendered: string; greedy_text: string };

/**
 * What lm-eval has to find: it moves the prompt's last line break to the answer, so that token counts too.
 * The perplexity is that of whole answers, as lm-eval defines it.
 */
function expectedOf(goldens: readonly Rendered[]): { rows: Row[]; perplexity: number } {
  const rows = goldens.map(({ rendered, greedy_text }) => ({
    prompt: rendered,
    answer: greedy_text,
    said: greedy_text.replace("<|im_end|>", ""),
  }));
  const sums = goldens.map(({ prompt_logprobs, greedy_logprobs }) =>
    [...prompt_logprobs.slice(-1), ...greedy_logprobs].reduce((a, b) => a + b, 0),
  );
  return { rows, perplexity: Math.exp(-sums.reduce((a, b) => a + b, 0) / sums.length) };
}

/** No token of the answer is nearly as likely as another, the prompt's last one included. */
function isClear({ greedy_margin_to_second, prompt_logprobs }: Rendered): boolean {
  const last = prompt_logprobs.at(-1) ?? -Infinity;
  return Math.min(...greedy_margin_to_second) > 0.01 && last > Math.log(0.5);
}

test.skipIf(python === undefined).each([
  { model: baseId, tokenized: true },
  { model: "support-triage", tokenized: false },
])(
  "lm-eval scores $model as the reference does, tokenized $tokenized",
  async ({ model, tokenized }) => {
    const goldens = demoGoldens(model === baseId ? "base" : model).goldens as Rendered[];
    const clear = goldens.filter(isClear);
    expect(clear.length).toBeGreaterThan(3);
    const { rows, perplexity } = expectedOf(clear);
    const scores = await evaluate(rows, { model, tokenized });
    // 1e-4 for each of some hundred tokens.
    expect(scores.likely["perplexity,none"] / perplexity).toBeCloseTo(1, 2);
    expect(scores.likely["acc,none"]).toBe(1);
    expect(scores.said["exact_match,none"]).toBe(1);
  },
  300_000,
);

type Scores = {
  likely: { "perplexity,none": number; "acc,none": number };
  said: { "exact_match,none": number };
};

async function evaluate(
  rows: readonly Row[],
  { model, tokenized }: { model: string; tokenized: boolean },
): Promise<Scores> {
  const work = await mkdtemp(join(folder, "run-"));
  const data = join(work, "rows.jsonl");
  await writeFile(data, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  const shared = {
    dataset_path: "json",
    dataset_kwargs: { data_files: { test: data } },
    test_split: "test",
    doc_to_text: "{{prompt}}",
    target_delimiter: "",
  };
  // YAML is JSON with liberties.
  await writeFile(
    join(work, "likely.yaml"),
    JSON.stringify({
      ...shared,
      task: "golden_likely",
      output_type: "loglikelihood",
      doc_to_target: "{{answer}}",
      metric_list: [{ metric: "perplexity" }, { metric: "acc" }],
    }),
  );
  await writeFile(
    join(work, "said.yaml"),
    JSON.stringify({
      ...shared,
      task: "golden_said",
      output_type: "generate_until",
      doc_to_target: "{{said}}",
      generation_kwargs: { until: ["<|im_end|>"], max_gen_toks: 48, do_sample: false },
      metric_list: [{ metric: "exact_match" }],
    }),
  );
  const modelArgs = {
    model,
    base_url: `${server.url}/v1/completions`,
    tokenizer_backend: "huggingface",
    tokenizer: join(demoFolder, "base"),
    tokenized_requests: tokenized ? "True" : "False",
    num_concurrent: 2,
    max_retries: 1,
    max_length: 2048,
  };
  const args = Object.entries(modelArgs).map(([name, value]) => `${name}=${value}`);
  await promisify(execFile)(
    python ?? "",
    [
      ...["-m", "lm_eval", "run", "--model", "local-completions"],
      ...["--model_args", args.join(","), "--include_path", work, "--output_path", work],
      ...["--tasks", "golden_likely,golden_said", "--batch_size", "3"],
    ],
    {
      timeout: 280_000,
      env: {
        ...process.env,
        OPENAI_API_KEY: operatorKey,
        HF_HOME: join(work, "cache"),
        HF_HUB_OFFLINE: "1",
        HF_DATASETS_OFFLINE: "1",
      },
    },
  );
  const written = await readdir(work, { recursive: true });
  const results = written.find((name) => /results_[^/]*\.json$/.test(name));
  expect(results).toBeDefined();
  const text = await readFile(join(work, results ?? ""), "utf8");
  const { golden_likely, golden_said } = JSON.parse(text).results;
  return { likely: golden_likely, said: golden_said };
}
