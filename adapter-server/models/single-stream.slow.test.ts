/** Weights of 4 bits beside others, for steps in which one sequence decodes: when an import has them, and what they compute. */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  argmax,
  demoAdapter,
  demoFolder,
  demoGoldens,
  largestDifference,
  openDemoRunner,
  readAdapter,
} from "../__fixtures__/demo-model.ts";
import { correlation, logProbability } from "../__fixtures__/logits.ts";
import { createRunner } from "../engine/model-runner.ts";
import type { ModelRunner, StepRow } from "../engine/types.ts";
import { openDora } from "../lora/dora.ts";
import { type ImportedModel, type ImportOptions, importModel } from "./import-model.ts";
import { readReport } from "./quantization/report.ts";
import type { StepTimes } from "./quantization/single-stream.ts";

const folder = `${demoFolder}/base`;
const families = fileURLToPath(new URL("../../../shared/fixtures/families", import.meta.url));
const doraFixture = fileURLToPath(new URL("../__fixtures__/dora", import.meta.url));

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "switchyard-single-"));
});
afterAll(() => rm(work, { recursive: true, force: true }));

/** An import that finds them as quick as it is told, in a folder of imports of its own. */
async function importTimed(times: StepTimes, options: Partial<ImportOptions> = {}) {
  const cacheDir = await mkdtemp(join(work, "imports-"));
  const asked: ImportOptions = {
    ...{ folder, format: "int8", singleStream: "int4", cacheDir },
    timeSteps: async () => times,
    ...options,
  };
  const model = await importModel(asked);
  return { model, asked, ...(await contents(model)) };
}

async function contents({ graphPath }: ImportedModel) {
  const files = await readdir(dirname(graphPath));
  const report = await readReport(dirname(graphPath));
  return { singles: files.filter((name) => name.startsWith("single-")).sort(), report };
}

const bytesOf = async ({ graphPath }: ImportedModel) =>
  (await stat(join(dirname(graphPath), "weights.bin"))).size;

const quicker: StepTimes = { main: 2, single: 1 };

describe("an import that is asked for them", () => {
  test("has them where they are quicker, and shares what both store alike", async () => {
    const { model, singles, report } = await importTimed(quicker);
    expect(singles).toEqual([
      "single-base-int8-cache.onnx",
      "single-base.onnx",
      "single-model-int8-cache.onnx",
      "single-model.onnx",
    ]);
    expect(report?.singleStream).toMatchObject({ format: "int4", isChosen: true });
    expect(report?.singleStream?.reason).toBe(
      "kept: a step of one sequence takes 1.0 ms with them and 2.0 without",
    );
    expect(report?.singleStream?.cost?.klMean).toBeGreaterThan(report?.cost.klMean ?? 0);
    expect(model.singleStream).toBe("int4");
    expect(model.numerics).toMatch(/^int8-[0-9a-f]{8}-single-int4$/);
    // Norms and the embedding lie there once.
    const [int8, int4] = await Promise.all([
      importModel({ folder, format: "int8", cacheDir: join(work, "plain") }),
      importModel({ folder, format: "int4", cacheDir: join(work, "plain") }),
    ]);
    expect(await bytesOf(model)).toBeLessThan((await bytesOf(int8)) + (await bytesOf(int4)) - 5e5);
  });

  test("leaves them out where they save less than a twentieth, and is then as without", async () => {
    const { model, singles, report } = await importTimed({ main: 1.04, single: 1 });
    expect(singles).toEqual([]);
    expect(report?.singleStream).toMatchObject({ isChosen: false });
    expect(report?.singleStream?.reason).toContain("left out: a step of one sequence takes");
    expect(model.singleStream).toBeUndefined();
    expect(model.numerics).toMatch(/^int8-[0-9a-f]{8}$/);
    const plain = await importModel({ folder, format: "int8", cacheDir: join(work, "plain") });
    expect(await bytesOf(model)).toBe(await bytesOf(plain));
  });

  test("leaves them out without trying where both do not fit into the memory", async () => {
    const times = async () => Promise.reject(new Error("nothing is timed"));
    const { singles, report } = await importTimed(quicker, {
      memoryBytesMax: 16e6,
      timeSteps: times,
    });
    expect(singles).toEqual([]);
    expect(report?.singleStream).toMatchObject({ format: "int4", isChosen: false });
    expect(report?.singleStream?.reason).toContain("do not fit into this memory");
  });

  test("measures them itself, and tells both times", async () => {
    const cacheDir = await mkdtemp(join(work, "measured-"));
    const model = await importModel({ folder, format: "int8", singleStream: "int4-128", cacheDir });
    const { singles, report } = await contents(model);
    const { isChosen, reason = "" } = report?.singleStream ?? {};
    expect(singles.length).toBe(isChosen ? 4 : 0);
    expect(reason).toMatch(/takes \d+\.\d ms with them and \d+\.\d without/);
  });

  test("is another one than without, which serves without them as well", async () => {
    const { model, asked } = await importTimed(quicker);
    const { singleStream, ...without } = asked;
    const off = await importModel(without);
    expect(off.graphPath).toBe(model.graphPath);
    expect(off.singleStream).toBeUndefined();
    expect(off.numerics).toMatch(/^int8-[0-9a-f]{8}$/);
    expect(await importModel(asked)).toEqual(model);
    const other = await importModel({ ...asked, singleStream: "int4-128" });
    expect(other.graphPath).not.toBe(model.graphPath);
    const only = join(work, "plain-first");
    const plain = await importModel({ ...without, cacheDir: only });
    const both = await importModel({ ...asked, cacheDir: only });
    expect(both.graphPath).not.toBe(plain.graphPath);
    expect((await importModel({ ...without, cacheDir: only })).graphPath).toBe(plain.graphPath);
  });

  test("refuses them beside float32", async () => {
    await expect(importTimed(quicker, { format: "f32" })).rejects.toMatchObject({
      code: "invalid_value",
    });
  });
});

describe("a runner with both", () => {
  test("computes marked rows as an import in 4 bits does, all others as one in 8, to the last bit", async () => {
    const { model } = await importTimed(quicker);
    const cacheDir = join(work, "plain");
    const both = await open(model);
    const [int8, int4] = [
      (await openDemoRunner("int8", cacheDir)).runner,
      (await openDemoRunner("int4", cacheDir)).runner,
    ];
    const adapter = await demoAdapter("banking-intent", model.shape);
    for (const runner of [both, int8, int4]) runner.loadSlot(1, adapter);
    for (const slot of [0, 1]) {
      const prompt = promptOf(slot === 0 ? "base" : "banking-intent", slot);
      for (const isSingle of [true, false]) {
        const expected = await firstTwo(isSingle ? int4 : int8, prompt, false);
        const found = await firstTwo(both, prompt, isSingle);
        expect(found.map((logits, at) => largestDifference(logits, expected[at]!))).toEqual([0, 0]);
      }
    }
    await Promise.all([both, int8, int4].map((runner) => runner.close()));
  });

  test("goes on by itself from what the other weights computed, as near to float32 as 4 bits are", async () => {
    const { model } = await importTimed(quicker);
    const runner = await open(model);
    for (const name of ["base", "tone-formal"]) {
      if (name !== "base") runner.loadSlot(1, await demoAdapter(name, model.shape));
      for (const golden of demoGoldens(name).goldens.slice(0, 4)) {
        const rows = {
          ...{ sequenceId: 1, slot: name === "base" ? 0 : 1, samples: 1 },
          blocks: Array.from({ length: 12 }, (_, block) => block),
        };
        await runner.run([], [{ ...rows, tokens: golden.prompt_ids, position: 0 }]);
        // Each token that the reference said, as likely as it found it.
        let error = 0;
        const told = golden.greedy_ids.slice(0, 8);
        for (const [index, token] of told.slice(0, -1).entries()) {
          const position = golden.prompt_ids.length + index;
          const row = { ...rows, tokens: [token], position, isSingle: true };
          const [logits] = await runner.run([row], []);
          const found = logProbability(logits!, told[index + 1]!);
          error += Math.abs(found - golden.greedy_logprobs[index + 1]!) / (told.length - 1);
        }
        expect(error).toBeLessThan(0.35);
      }
    }
    await runner.close();
  });

  test("computes a sequence with DoRA with the usual weights, before and in the thread of all graphs", async () => {
    const { model } = await importTimed(quicker);
    const factors = await openDora({ path: model.source, digest: model.baseDigest });
    const dora = await readAdapter(doraFixture, model.shape, factors);
    await factors.close();
    const runner = await open(model);
    const plain = promptOf("base", 0);
    const before = await firstTwo(runner, plain, true);
    runner.loadSlot(1, dora);
    const prompt = promptOf("base", 1);
    const [marked, unmarked] = [
      await firstTwo(runner, prompt, true),
      await firstTwo(runner, prompt, false),
    ];
    expect(marked).toEqual(unmarked);
    // The thread has the other graphs too.
    expect(await firstTwo(runner, plain, true)).toEqual(before);
    await runner.close();
  });

  test
    .skipIf(!existsSync(families))
    .each(["models/mistral", "models/qwen3", "later/gemma3", "later/phi3"])(
    "of %s finds the goldens' likeliest tokens likely (skipped without ../shared)",
    async (name) => {
      const source = join(families, name);
      const { model } = await importTimed(quicker, { folder: source });
      expect(model.singleStream).toBe("int4");
      const runner = await open(model);
      const { cases } = JSON.parse(readFileSync(join(source, "goldens.json"), "utf8"));
      for (const { prompt, logits_f32le_b64 } of cases) {
        const bytes = new Uint8Array(Buffer.from(logits_f32le_b64, "base64"));
        const exact = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
        const rows = {
          ...{ sequenceId: 1, slot: 0 },
          blocks: Array.from({ length: 12 }, (_, block) => block),
        };
        const [cut, last] = [prompt.slice(0, -1), prompt.slice(-1)];
        if (cut.length > 0) {
          await runner.run([], [{ ...rows, tokens: cut, position: 0, samples: 0 }]);
        }
        const row = { ...rows, tokens: last, position: cut.length, samples: 1, isSingle: true };
        const [logits] = await runner.run([row], []);
        expect(correlation(logits!, exact)).toBeGreaterThan(0.9);
      }
      await runner.close();
    },
  );
});

function open(model: ImportedModel): Promise<ModelRunner> {
  return createRunner({ model, blocks: 64, slots: 2, rankMax: 32, threads: 2 });
}

function promptOf(name: string, slot: number): { tokens: number[]; slot: number } {
  return { tokens: demoGoldens(name).goldens[1]!.prompt_ids, slot };
}

/** The logits behind a prompt, and behind the likeliest token there. */
async function firstTwo(
  runner: ModelRunner,
  { tokens, slot }: { tokens: number[]; slot: number },
  isSingle: boolean,
): Promise<Float32Array[]> {
  const blocks = Array.from({ length: 12 }, (_, block) => block);
  const of = { sequenceId: 1, slot, blocks, samples: 1, isSingle };
  const rowOf = (tokens: number[], position: number): StepRow => ({ ...of, tokens, position });
  const [first] = (await runner.run([], [rowOf(tokens, 0)])).map((logits) => logits.slice());
  const [second] = await runner.run([rowOf([argmax(first!)], tokens.length)], []);
  return [first!, second!.slice()];
}
