/** The demo model for tests: its runner, its adapters, its goldens, and a plain greedy loop. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { checkAdapter } from "../../sdk/protocol/adapter/check-adapter.ts";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { createRunner, type ModelRunnerOptions } from "../engine/model-runner.ts";
import type { ModelRunner, PackedAdapter, StepRow } from "../engine/types.ts";
import type { Dora } from "../lora/dora.ts";
import { packAdapter } from "../lora/pack.ts";
import { type ImportedModel, importModel, type ModelFormat } from "../models/import-model.ts";

export const demoFolder = fileURLToPath(new URL("../../deploy/demo-model", import.meta.url));

/** What an adapter of the demo model has to fit. */
export const demoShape: BaseShape = {
  family: "llama",
  layers: 8,
  hiddenSize: 256,
  vocabSize: 4096,
  modules: {
    q_proj: { in: 256, out: 256 },
    k_proj: { in: 256, out: 128 },
    v_proj: { in: 256, out: 128 },
    o_proj: { in: 256, out: 256 },
    gate_proj: { in: 256, out: 704 },
    up_proj: { in: 256, out: 704 },
    down_proj: { in: 704, out: 256 },
  },
  trainedAs: ["support-tiny"],
};

export type DemoRunner = { runner: ModelRunner; model: ImportedModel };

/** @param options what differs from a small pool of blocks and slots of rank 32 */
export async function openDemoRunner(
  format: ModelFormat,
  cacheDir: string,
  options: Partial<ModelRunnerOptions> & { folder?: string } = {},
): Promise<DemoRunner> {
  const { folder = `${demoFolder}/base`, ...rest } = options;
  const model = await importModel({ folder, format, cacheDir });
  const defaults = { blocks: 512, slots: 8, rankMax: 32, threads: 2 };
  return { model, runner: await createRunner({ model, ...defaults, ...rest }) };
}

export function demoAdapter(name: string, shape: BaseShape): Promise<PackedAdapter> {
  return readAdapter(`${demoFolder}/adapters/${name}`, shape);
}

/** @param dora for adapters that depend on the base's own weights */
export async function readAdapter(
  folder: string,
  shape: BaseShape,
  dora?: Dora,
): Promise<PackedAdapter> {
  const config = await readFile(`${folder}/adapter_config.json`);
  const weights = await readFile(`${folder}/adapter_model.safetensors`);
  const checked = checkAdapter({ config, weights, shape, rankMax: 128 });
  const digest = createHash("sha256").update(config).update(weights).digest("hex");
  return packAdapter(checked, digest, { scale: dora?.scale });
}

/** One prompt and what transformers and PEFT made of it in float32. */
export type Golden = {
  prompt_ids: number[];
  next_token: { top20_ids: number[]; top20_logits: number[]; logsumexp: number };
  prompt_logprobs: number[];
  greedy_ids: number[];
  greedy_logprobs: number[];
  greedy_margin_to_second: number[];
};

/** @param name `base`, an adapter's name, or `mix-…` */
export function demoGoldens(name: string): {
  goldens: Golden[];
  mix?: { adapter: string; weight: number }[];
} {
  const url = new URL(`tiny/goldens/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(url, "utf8"));
}

export type Prompt = { tokens: readonly number[]; slot: number; tokensMax: number };
export type Generated = { tokens: number[]; firstLogits: Float32Array };

/**
 * Continues prompts greedily, many at a time, each prompt in one chunk. A sequence ends with a token of
 * `ends`, which is kept.
 */
export async function generate(
  runner: ModelRunner,
  prompts: readonly Prompt[],
  { ends, rowsMax = 16 }: { ends: readonly number[]; rowsMax?: number },
): Promise<Generated[]> {
  const results: Generated[] = prompts.map(() => ({ tokens: [], firstLogits: new Float32Array() }));
  const free = Array.from({ length: runner.blocks }, (_, block) => block);
  const waiting = prompts.map((prompt, index) => ({ prompt, index, blocks: [] as number[] }));
  let running: typeof waiting = [];
  const rowOf = ({ prompt, index, blocks }: (typeof waiting)[number]): StepRow => {
    const done = results[index]!.tokens;
    const decoding = done.length > 0;
    return {
      sequenceId: index,
      tokens: decoding ? [done.at(-1)!] : prompt.tokens,
      position: decoding ? prompt.tokens.length + done.length - 1 : 0,
      blocks,
      slot: prompt.slot,
      samples: 1,
    };
  };
  while (waiting.length + running.length > 0) {
    const started: typeof waiting = [];
    while (waiting.length > 0 && running.length + started.length < rowsMax) {
      const next = waiting[0]!;
      const blocks = Math.ceil(
        (next.prompt.tokens.length + next.prompt.tokensMax) / runner.blockSize,
      );
      if (blocks > free.length) break;
      next.blocks = free.splice(0, blocks);
      started.push(waiting.shift()!);
    }
    const logits = await runner.run(running.map(rowOf), started.map(rowOf));
    const rows = [...running, ...started];
    running = rows.filter((sequence, at) => {
      const result = results[sequence.index]!;
      if (result.tokens.length === 0) result.firstLogits = logits[at]!.slice();
      const token = argmax(logits[at]!);
      result.tokens.push(token);
      if (result.tokens.length < sequence.prompt.tokensMax && !ends.includes(token)) return true;
      free.push(...sequence.blocks);
      return false;
    });
  }
  return results;
}

export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
  return largest;
}
