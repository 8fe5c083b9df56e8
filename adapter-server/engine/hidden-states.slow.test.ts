/** Hidden states of the real graph: the head makes the reference's logits of them, and no neighbour changes them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type DemoRunner,
  demoAdapter,
  demoFolder,
  demoGoldens,
  largestDifference,
  openDemoRunner,
} from "../__fixtures__/demo-model.ts";
import { openModelSource } from "../models/model-source.ts";
import { Pooler, type Pooling, statesWanted } from "./pooling.ts";
import type { StepRow } from "./types.ts";

const names = ["base", "banking-intent", "tone-formal"];
/** Two float32 implementations, and a head that sums in another order. */
const goldenTolerance = 1e-3;
/** States have a magnitude of about 1; kernels are chosen by the number of rows. */
const orderTolerance = 1e-4;

let cacheDir: string;
let demo: DemoRunner;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-states-"));
  demo = await openDemoRunner("f32", cacheDir);
  for (const [slot, name] of names.entries()) {
    if (slot > 0) demo.runner.loadSlot(slot, await demoAdapter(name, demo.model.shape));
  }
});
afterAll(async () => {
  await demo.runner.close();
  await rm(cacheDir, { recursive: true, force: true });
});

test("the head makes the reference's logits of a prompt's last state, of the base and of adapters", async () => {
  const head = await readHead();
  for (const [slot, name] of names.entries()) {
    const { prompt_ids, next_token } = demoGoldens(name).goldens[0]!;
    const state = await pooled("last", prompt_ids, { slot });
    const ours = next_token.top20_ids.map((id) => dot(head, state, id));
    expect(largestDifference(ours, next_token.top20_logits), name).toBeLessThan(goldenTolerance);
  }
});

test.each([1, 3, 16, 100])(
  "the mean of a prompt cut into chunks of %i is that of its beginnings' last states",
  async (chunk) => {
    const tokens = prompt("base").slice(0, 20);
    const lasts: Float32Array[] = [];
    for (let end = 1; end <= tokens.length; end++) {
      lasts.push(await pooled("last", tokens.slice(0, end), { slot: 1 }));
    }
    const mean = lasts[0]!.map(
      (_, i) => lasts.reduce((sum, state) => sum + state[i]!, 0) / lasts.length,
    );
    const ours = await pooled("mean", tokens, { slot: 1, chunk });
    expect(largestDifference(ours, mean)).toBeLessThan(orderTolerance);
  },
);

test("a state is the same alone and between rows that decode, that are pooled otherwise, and that have adapters", async () => {
  const { runner } = demo;
  const rows = names.map((name, slot) => row(prompt(name), { slot, firstBlock: 8 * slot }));
  const alone: Float32Array[] = [];
  for (const [slot, name] of names.entries()) {
    alone.push(await pooled("last", prompt(name), { slot }));
  }
  const decoding = { ...row([5], { slot: 1, firstBlock: 100 }), samples: 1, states: 0 };
  const all = { ...rows[2]!, states: rows[2]!.tokens.length };
  const results = await runner.run([decoding], [rows[0]!, rows[1]!, all]);
  expect(results).toHaveLength(1);
  expect(runner.statesOf?.(decoding)).toBeUndefined();
  expect(largestDifference(runner.statesOf!(rows[0]!)!, alone[0]!)).toBeLessThan(orderTolerance);
  expect(largestDifference(runner.statesOf!(rows[1]!)!, alone[1]!)).toBeLessThan(orderTolerance);
  const last = runner.statesOf!(all)!.slice(-runner.dims.hiddenSize);
  expect(largestDifference(last, alone[2]!)).toBeLessThan(orderTolerance);
  expect(largestDifference(alone[0]!, alone[1]!)).toBeGreaterThan(0.1);
});

test.each(["int8", "int4-128"] as const)(
  "with %s weights and a cache of int8 states point where the exact ones do, adapters' too",
  async (format) => {
    const small = await openDemoRunner(format, cacheDir, { keyValues: "int8" });
    small.runner.loadSlot(1, await demoAdapter("banking-intent", small.model.shape));
    for (const slot of [0, 1]) {
      const tokens = prompt("banking-intent");
      const exact = await pooled("mean", tokens, { slot, chunk: 9 });
      const rounded = await pooled("mean", tokens, { slot, chunk: 9, runner: small.runner });
      expect(cosine(exact, rounded)).toBeGreaterThan(0.98);
    }
    await small.runner.close();
  },
);

test("a vector that is not made of numbers is refused", () => {
  const pooler = new Pooler(2, () => ({ pooling: "last", prompt: [1] }));
  expect(() => pooler.take(row([1], {}), Float32Array.of(1, Number.NaN))).toThrow("not numbers");
});

/** Runs a prompt in chunks and pools what comes of it. */
async function pooled(
  pooling: Pooling,
  tokens: readonly number[],
  { slot = 0, chunk = tokens.length, runner = demo.runner },
): Promise<Float32Array> {
  const sequence = { pooling, prompt: tokens };
  const pooler = new Pooler(runner.dims.hiddenSize, () => sequence);
  for (let position = 0; ; position += chunk) {
    const part = tokens.slice(position, position + chunk);
    const endsSequence = position + part.length === tokens.length;
    const states = statesWanted(pooling, { tokens: part.length, endsSequence });
    const one = { ...row(part, { slot, firstBlock: 200 }), position, states };
    await runner.run([], [one]);
    const vector = states > 0 ? pooler.take(one, runner.statesOf!(one)!) : undefined;
    if (vector) return vector;
  }
}

function row(tokens: readonly number[], { slot = 0, firstBlock = 0 }): StepRow {
  const blocks = Array.from({ length: 8 }, (_, index) => firstBlock + index);
  return { sequenceId: firstBlock, tokens, position: 0, blocks, slot, samples: 0, states: 1 };
}

function prompt(name: string): number[] {
  return demoGoldens(name).goldens[0]!.prompt_ids;
}

/** The checkpoint's own, which is its embedding. */
async function readHead(): Promise<Float32Array> {
  const source = await openModelSource(`${demoFolder}/base`);
  const weights = await source.openWeights();
  expect(source.spec.tiedEmbedding).toBe(true);
  const head = await weights.read(source.spec.tensors.embedding);
  await weights.close();
  return head;
}

function cosine(a: Float32Array, b: Float32Array): number {
  const product = a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  return product / (Math.hypot(...a) * Math.hypot(...b));
}

function dot(head: Float32Array, state: Float32Array, id: number): number {
  return state.reduce((sum, value, i) => sum + value * head[id * state.length + i]!, 0);
}
