/** The runner on the demo model, against what transformers and PEFT computed in float32. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  argmax,
  type DemoRunner,
  demoAdapter,
  demoGoldens,
  type Golden,
  generate,
  largestDifference,
  openDemoRunner,
} from "../__fixtures__/demo-model.ts";
import { correlation, logProbability } from "../__fixtures__/logits.ts";
import { mixAdapters } from "../lora/pack.ts";
import type { ModelFormat } from "../models/import-model.ts";
import type { ModelRunner, StepRow } from "./types.ts";

/** Slots in this order. Ranks are 16, 8, 16, 4, and for the mixes 20 and 24. */
const adapters = ["banking-intent", "restaurant-slots", "support-triage", "tone-formal"];
const mixes = ["mix-banking-tone", "mix-restaurant-triage"];
const slotNames = ["base", ...adapters, ...mixes];

/** Logits reach 15; two float32 implementations were measured 1e-5 apart, and this leaves room for kernels. */
const goldenTolerance = 1e-3;
/** The same numbers in another order of summation: kernels are chosen by the number of rows. */
const orderTolerance = 1e-4;

let cacheDir: string;
let demo: DemoRunner;
let runner: ModelRunner;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-runner-"));
  demo = await openDemoRunner("f32", cacheDir);
  runner = demo.runner;
  await loadAll(demo);
});
afterAll(async () => {
  await runner.close();
  await rm(cacheDir, { recursive: true, force: true });
});

describe("against the float32 goldens", () => {
  test("base, adapters and mixes answer as PEFT does, all in the same batches", async () => {
    const cases = slotNames.flatMap((name, slot) =>
      demoGoldens(name).goldens.map((golden) => ({ name, slot, golden })),
    );
    const generated = await generate(
      runner,
      cases.map(({ golden, slot }) => ({
        tokens: golden.prompt_ids,
        slot,
        tokensMax: golden.greedy_ids.length,
      })),
      { ends: demo.model.endTokenIds, rowsMax: 24 },
    );
    cases.forEach(({ name, golden }, index) => {
      const { tokens, firstLogits } = generated[index]!;
      const { top20_ids, top20_logits } = golden.next_token;
      const ours = top20_ids.map((id) => firstLogits[id]!);
      expect(largestDifference(ours, top20_logits), name).toBeLessThan(goldenTolerance);
      expect(untilTie(golden, tokens), name).toEqual(untilTie(golden, golden.greedy_ids));
    });
  });

  test("every token of a prompt has the reference's log-probability, decoded one by one", async () => {
    const cases = slotNames.map((name, slot) => ({ slot, golden: demoGoldens(name).goldens[0]! }));
    const length = Math.max(...cases.map(({ golden }) => golden.prompt_ids.length));
    const ours: number[][] = cases.map(() => []);
    for (let position = 0; position + 1 < length; position++) {
      const going = cases.filter(({ golden }) => position + 1 < golden.prompt_ids.length);
      const rows = going.map(({ slot, golden }) =>
        row({ tokens: [golden.prompt_ids[position]!], position, slot, firstBlock: 8 * slot }),
      );
      const logits = await runner.run(rows, []);
      going.forEach(({ slot, golden }, index) => {
        ours[slot]!.push(logProbability(logits[index]!, golden.prompt_ids[position + 1]!));
      });
    }
    for (const { slot, golden } of cases) {
      expect(ours[slot]!.length).toBe(golden.prompt_logprobs.length);
      expect(largestDifference(ours[slot]!, golden.prompt_logprobs)).toBeLessThan(goldenTolerance);
    }
  });
});

describe("rows of a batch", () => {
  const prompts = slotNames.map((name, slot) => ({
    slot,
    tokens: demoGoldens(name).goldens[slot % 6]!.prompt_ids,
  }));
  const prefillRow = ({ slot, tokens }: (typeof prompts)[number], index: number) =>
    row({ tokens, position: 0, slot, firstBlock: 8 * index });

  test("are what they are alone, in prefill and in decoding, with adapters in uneven groups", async () => {
    const many = [...prompts, { ...prompts[1]!, tokens: prompts[2]!.tokens }, { ...prompts[0]! }];
    const together = copied(await runner.run([], many.map(prefillRow)));
    const next = together.map(argmax);
    const decodeRow = (prompt: (typeof prompts)[number], index: number) =>
      row({
        tokens: [next[index]!],
        position: prompt.tokens.length,
        slot: prompt.slot,
        firstBlock: 8 * index,
      });
    const decoded = copied(await runner.run(many.map(decodeRow), []));
    for (const [index, prompt] of many.entries()) {
      const [alone] = copied(await runner.run([], [prefillRow(prompt, index)]));
      expect(largestDifference(alone!, together[index]!)).toBeLessThan(orderTolerance);
      const [aloneNext] = await runner.run([decodeRow(prompt, index)], []);
      expect(largestDifference(aloneNext!, decoded[index]!)).toBeLessThan(orderTolerance);
    }
  });

  test("stand in the order decode then prefill, and only those that sample have logits", async () => {
    const first = prompts[3]!;
    const second = prompts[4]!;
    const [reference] = copied(await runner.run([], [prefillRow(second, 4)]));
    await runner.run([], [prefillRow(first, 3)]);
    const decode = [row({ tokens: [5], position: first.tokens.length, slot: 3, firstBlock: 24 })];
    const unsampled = { ...prefillRow(prompts[5]!, 5), samples: 0 };
    const results = await runner.run(decode, [unsampled, prefillRow(second, 4)]);
    expect(results.length).toBe(2);
    expect(largestDifference(results[1]!, reference!)).toBeLessThan(orderTolerance);
    expect(await runner.run([], [unsampled])).toEqual([]);
  });

  test("come out the same when a prompt is computed in chunks of any size", async () => {
    const { tokens, slot } = prompts[5]!;
    const [whole] = copied(await runner.run([], [prefillRow(prompts[5]!, 0)]));
    for (const size of [1, 7, 16, 17]) {
      let last: Float32Array | undefined;
      for (let position = 0; position < tokens.length; position += size) {
        const chunk = tokens.slice(position, position + size);
        const samples = position + size >= tokens.length ? 1 : 0;
        [last] = await runner.run(
          [],
          [{ ...row({ tokens: chunk, position, slot, firstBlock: 40 }), samples }],
        );
      }
      expect(largestDifference(last!, whole!)).toBeLessThan(orderTolerance);
    }
  });

  test.each<ModelFormat>(["int8", "int8-a16", "int8-blocks", "int4", "int4-128"])(
    "come out the same in chunks with %s weights, where a chunk samples nothing",
    async (format) => {
      const quantized = await openDemoRunner(format, cacheDir);
      const { tokens } = prompts[5]!;
      const prefill = (chunk: number[], position: number, samples: number) =>
        quantized.runner.run(
          [],
          [{ ...row({ tokens: chunk, position, slot: 0, firstBlock: 40 }), samples }],
        );
      const [whole] = copied(await prefill(tokens, 0, 1));
      expect(await prefill(tokens.slice(0, 17), 0, 0)).toEqual([]);
      const [last] = await prefill(tokens.slice(17), 17, 1);
      expect(argmax(last!)).toBe(argmax(whole!));
      expect(largestDifference(last!, whole!)).toBeLessThan(0.2);
      await quantized.runner.close();
    },
  );

  test("of another sequence stay clean of an adapter that is not a number, and so do its blocks", async () => {
    const broken = await demoAdapter("banking-intent", demo.model.shape);
    for (const layer of broken.layers)
      for (const pair of Object.values(layer)) pair.b.fill(Number.NaN);
    runner.loadSlot(7, broken);
    const clean = prompts.slice(0, 4);
    const before = copied(await runner.run([], clean.map(prefillRow)));
    // Long enough to leave something in every block that the next sequence takes over.
    const long = new Array<number>(128).fill(5);
    const poisoned = row({ tokens: long, position: 0, slot: 7, firstBlock: 100 });
    const mixed = copied(await runner.run([], [poisoned, ...clean.map(prefillRow)]));
    expect(mixed[0]!.every(Number.isNaN)).toBe(true);
    before.forEach((logits, index) => {
      expect(largestDifference(mixed[index + 1]!, logits)).toBeLessThan(orderTolerance);
    });

    const reused = row({ tokens: clean[1]!.tokens, position: 0, slot: 1, firstBlock: 100 });
    await runner.run([], [reused]);
    const next = { tokens: [5], position: clean[1]!.tokens.length, slot: 1 };
    const [inReused] = copied(await runner.run([row({ ...next, firstBlock: 100 })], []));
    const [inClean] = await runner.run([row({ ...next, firstBlock: 8 })], []);
    expect(largestDifference(inReused!, inClean!)).toBeLessThan(orderTolerance);
  });
});

test("a cache of int8 changes answers little, however a prompt is cut and whatever it kept before", async () => {
  const small = await openDemoRunner("f32", cacheDir, { keyValues: "int8" });
  await loadAll(small);
  const { tokens: prompt, slot } = { tokens: demoGoldens("base").goldens[5]!.prompt_ids, slot: 1 };
  const answer = async (one: ModelRunner, size: number) => {
    const logits: Float32Array[] = [];
    for (let position = 0; position < prompt.length; position += size) {
      const tokens = prompt.slice(position, position + size);
      logits.push(...copied(await one.run([], [row({ tokens, position, slot, firstBlock: 8 })])));
    }
    const decode = row({ tokens: [7], position: prompt.length, slot, firstBlock: 8 });
    return [...logits.slice(-1), ...copied(await one.run([decode], []))];
  };
  const exact = await answer(runner, prompt.length);
  for (const size of [1, 7, 16, prompt.length]) {
    const close = await answer(small.runner, size);
    for (const [index, logits] of close.entries()) {
      expect(argmax(logits)).toBe(argmax(exact[index]!));
      // Logits reach 15.
      expect(largestDifference(logits, exact[index]!)).toBeLessThan(0.15);
      expect(largestDifference(logits, exact[index]!)).toBeGreaterThan(0);
    }
  }
  await small.runner.close();
});

test("a slot's adapter can be replaced, and slots that no call used before find a place", async () => {
  const small = await openDemoRunner("f32", cacheDir, { slots: 3, rankMax: 16 });
  const [goldens, other] = ["tone-formal", "banking-intent"].map(
    (name) => demoGoldens(name).goldens[0]!,
  );
  const prefill = (golden: Golden, slot: number) =>
    small.runner.run([], [row({ tokens: golden.prompt_ids, position: 0, slot, firstBlock: 0 })]);
  small.runner.loadSlot(3, await demoAdapter("tone-formal", demo.model.shape));
  const [tone] = copied(await prefill(goldens!, 3));
  expect(argmax(tone!)).toBe(goldens!.next_token.top20_ids[0]);
  small.runner.loadSlot(3, await demoAdapter("banking-intent", demo.model.shape));
  const [banking] = await prefill(other!, 3);
  expect(argmax(banking!)).toBe(other!.next_token.top20_ids[0]);
  await small.runner.close();
});

describe.each(["int8", "int4"] as const)("%s weights", (format) => {
  test("keep rows of a batch what they are alone, and stay close to float32", async () => {
    const quantized = await openDemoRunner(format, cacheDir);
    await loadAll(quantized);
    const rows = slotNames.map((name, slot) =>
      row({
        tokens: demoGoldens(name).goldens[1]!.prompt_ids,
        position: 0,
        slot,
        firstBlock: 8 * slot,
      }),
    );
    const exact = copied(await runner.run([], rows));
    const together = copied(await quantized.runner.run([], rows));
    for (const [index, single] of rows.entries()) {
      const [alone] = await quantized.runner.run([], [single]);
      // A last bit of attention's sum may move an activation to the next of its 255 levels.
      expect(largestDifference(alone!, together[index]!)).toBeLessThan(0.25);
      expect(correlation(together[index]!, exact[index]!)).toBeGreaterThan(0.95);
    }
    await quantized.runner.close();
  });
});

async function loadAll({ runner, model }: DemoRunner): Promise<void> {
  const loaded = await Promise.all(adapters.map((name) => demoAdapter(name, model.shape)));
  loaded.forEach((adapter, index) => {
    runner.loadSlot(index + 1, adapter);
  });
  mixes.forEach((name, index) => {
    const parts = (demoGoldens(name).mix ?? []).map(({ adapter, weight }) => ({
      adapter: loaded[adapters.indexOf(adapter)]!,
      weight,
    }));
    const mix = mixAdapters(parts, { digest: name, rankMax: runner.rankMax });
    runner.loadSlot(adapters.length + 1 + index, mix);
  });
}

function row(of: {
  tokens: readonly number[];
  position: number;
  slot: number;
  firstBlock: number;
}): StepRow {
  const blocks = Array.from({ length: 8 }, (_, index) => of.firstBlock + index);
  return { sequenceId: of.firstBlock, ...of, blocks, samples: 1 };
}

/** Greedy tokens up to the first place where the two best are too close for another implementation. */
function untilTie(golden: Golden, tokens: readonly number[]): number[] {
  const tie = golden.greedy_margin_to_second.findIndex((margin) => margin < goldenTolerance);
  return tokens.slice(0, tie === -1 ? golden.greedy_ids.length : tie);
}

/** Results are the runner's until its next call. */
function copied(logits: Float32Array[]): Float32Array[] {
  return logits.map((values) => values.slice());
}
