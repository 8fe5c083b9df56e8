/**
 * What a sequence is answered does not depend on who shares its steps, on how its prompt is cut into chunks, on
 * what of it was cached, on whether it lost its blocks on the way, nor on what was guessed of it: random schedules
 * against each sequence alone, whole, and computed token by token from its start. `docs/experiments.md` tells which kernels make which difference.
 */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type DemoRunner,
  demoAdapter,
  demoFolder,
  largestDifference,
  openDemoRunner,
} from "../__fixtures__/demo-model.ts";
import {
  type Answered,
  decodeAlone,
  decodeTogether,
  randomSchedule,
  type Schedule,
} from "../__fixtures__/random-schedule.ts";
import type { ModelFormat } from "../models/import-model.ts";
import { int8WeightType } from "../models/int8-weights.ts";
import { uniform } from "./philox.ts";
import type { LoraPair, PackedAdapter } from "./types.ts";

/**
 * Logits reach 15. Where attention is cut into cached and new positions decides in which order it is summed, and
 * a single row of an adapter's product has a kernel of its own; float32 then differs by up to 3e-5.
 */
const orderTolerance = 1e-4;
const allBlocks = 512;

const mistral = fileURLToPath(
  new URL("../../../shared/fixtures/families/models/mistral", import.meta.url),
);
const models = [
  { name: "the demo model", folder: `${demoFolder}/base`, missing: false },
  // Its layers attend to 24 positions, which is no whole number of blocks.
  { name: "a model with a window", folder: mistral, missing: !existsSync(mistral) },
];
const formats: ModelFormat[] = ["int8", "int8-a16", "int8-blocks", "int4", "int4-128"];

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-invariance-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe.each(models)("$name", ({ folder, missing }) => {
  test.skipIf(missing)("in float32 answers the same, whatever the schedule", async () => {
    const demo = await open("f32", folder);
    const adapters = await adaptersFor(demo, folder);
    const seen = { compared: 0, preemptions: 0, cachedTokens: 0, guessesHeld: 0 };
    for (const seed of [3, 6, 10, 14]) {
      const schedule = randomSchedule(seed, demo.runner, adapters);
      const alone = await decodeAlone(demo.runner, schedule, adapters);
      const { answered, stats } = await decodeTogether(demo.runner, schedule, adapters);
      seen.preemptions += stats.preemptions;
      seen.cachedTokens += stats.prefixTokensHit;
      seen.guessesHeld += stats.speculation.held;
      for (const [id, answer] of answered) {
        const pairs = comparable(answer, alone.get(id)!);
        for (const [ours, reference] of pairs) {
          expect(largestDifference(ours, reference)).toBeLessThan(orderTolerance);
        }
        seen.compared += pairs.length;
        expectSameTokens(schedule, { id, answer, reference: alone.get(id)! });
      }
    }
    expect(seen.compared).toBeGreaterThan(300);
    expect(seen.preemptions).toBeGreaterThan(0);
    expect(seen.cachedTokens).toBeGreaterThan(0);
    expect(seen.guessesHeld).toBeGreaterThan(0);
    await demo.runner.close();
  });

  // A last bit may move an activation to the next of its 255 levels, and each level that moves is as large as the
  // rounding of that activation: so a schedule may change what quantizing has changed already, by less than that.
  test.skipIf(missing).each(formats)(
    "in %s differs between schedules by less than the format differs from float32",
    async (format) => {
      const exact = await open("f32", folder);
      const demo = await open(format, folder);
      const adapters = await adaptersFor(demo, folder);
      const byFormat = new MeanSquare();
      const bySchedule = new MeanSquare();
      for (const seed of [6, 10]) {
        const schedule = randomSchedule(seed, demo.runner, adapters);
        const first = schedule.requests.map((request) => ({ ...request, maxTokens: 1 }));
        const unquantized = await decodeAlone(exact.runner, { requests: first }, adapters);
        const alone = await decodeAlone(demo.runner, schedule, adapters);
        const { answered } = await decodeTogether(demo.runner, schedule, adapters);
        for (const [id, answer] of answered) {
          const reference = alone.get(id)!;
          byFormat.add(reference.logits[0]!, unquantized.get(id)!.logits[0]!);
          for (const [ours, theirs] of comparable(answer, reference)) bySchedule.add(ours, theirs);
        }
      }
      expect(bySchedule.root()).toBeLessThan(byFormat.root());
      await exact.runner.close();
      await demo.runner.close();
    },
  );

  // The weights' products add up each row by itself. Not so in 4-bit blocks of 128, where a single row has a kernel
  // of its own, nor in any 4-bit blocks without VNNI, nor for adapters, where that is so in every format. Measured on
  // x64 alone.
  const rowByRow: ModelFormat[] =
    int8WeightType === "int8" ? ["f32", "int8", "int4"] : ["f32", "int8"];
  test.skipIf(missing || process.arch !== "x64").each(rowByRow)(
    "in %s answers on the base the same to the last bit, whoever else is there, when prompts are whole",
    async (format) => {
      const demo = await open(format, folder);
      const adapters = await adaptersFor(demo, folder);
      const schedule: Schedule = {
        ...randomSchedule(5, demo.runner, adapters),
        limits: {
          sequencesMax: 10,
          stepTokensMax: 2048,
          prefillChunkMax: 256,
          speculationTokensMax: 0,
        },
        blocks: allBlocks,
        prefixCache: false,
      };
      const onBase = schedule.requests.filter(({ adapter }) => adapter === undefined);
      const alone = await decodeAlone(demo.runner, { requests: onBase }, []);
      const { answered } = await decodeTogether(demo.runner, schedule, adapters);
      expect(onBase.length).toBeGreaterThan(2);
      expect(onBase.length).toBeLessThan(schedule.requests.length);
      for (const { id } of onBase) {
        const { tokens, logits } = answered.get(id)!;
        const reference = alone.get(id)!;
        expect(tokens).toEqual(reference.tokens.slice(0, tokens.length));
        logits.forEach((values, index) => {
          expect(largestDifference(values, reference.logits[index]!)).toBe(0);
        });
      }
      await demo.runner.close();
    },
  );
});

function open(format: ModelFormat, folder: string): Promise<DemoRunner> {
  return openDemoRunner(format, cacheDir, { folder, slots: 2, blocks: allBlocks });
}

/** More than there are slots for. */
async function adaptersFor({ model }: DemoRunner, folder: string): Promise<PackedAdapter[]> {
  if (folder !== mistral) {
    const names = ["banking-intent", "restaurant-slots", "support-triage", "tone-formal"];
    return Promise.all(names.map((name) => demoAdapter(name, model.shape)));
  }
  return [1, 2, 3].map((seed) => randomAdapter(seed, model.shape));
}

function randomAdapter(seed: number, shape: DemoRunner["model"]["shape"]): PackedAdapter {
  const rank = 4 * seed;
  let draws = 0;
  const values = (length: number) =>
    Float32Array.from({ length }, () => 0.1 * (uniform(seed, 0, draws++) - 0.5));
  const layer = () =>
    Object.fromEntries(
      Object.entries(shape.modules).map(([module, size]): [string, LoraPair] => [
        module,
        { a: values(rank * size.in), b: values(rank * size.out), rank },
      ]),
    );
  return { digest: `random-${seed}`, rank, layers: Array.from({ length: shape.layers }, layer) };
}

/** Logits in pairs, as long as the same tokens went before them. */
function comparable(answer: Answered, reference: Answered): [Float32Array, Float32Array][] {
  const parted = answer.tokens.findIndex((token, index) => token !== reference.tokens[index]);
  const count = parted === -1 ? answer.logits.length : parted + 1;
  return answer.logits
    .slice(0, count)
    .map((logits, index): [Float32Array, Float32Array] => [logits, reference.logits[index]!]);
}

/** The same tokens, until two are so close that the order of a sum decides between them. */
function expectSameTokens(
  { requests }: Schedule,
  { id, answer, reference }: { id: number; answer: Answered; reference: Answered },
): void {
  const request = requests.find((one) => one.id === id);
  const parted = answer.tokens.findIndex((token, index) => token !== reference.tokens[index]);
  if (parted === -1) {
    if (request?.leaves === undefined) expect(answer.tokens).toEqual(reference.tokens);
    return;
  }
  // Where it draws, a boundary between two tokens is hit as rarely as it moves: no schedule here does.
  expect(request?.sampling.temperature).toBe(0);
  const logits = reference.logits[parted]!;
  const [first, second] = [reference.tokens[parted]!, answer.tokens[parted]!];
  expect(Math.abs(logits[first]! - logits[second]!)).toBeLessThan(2 * orderTolerance);
}

class MeanSquare {
  #sum = 0;
  #count = 0;

  add(a: Float32Array, b: Float32Array): void {
    for (let i = 0; i < a.length; i++) this.#sum += (a[i]! - b[i]!) ** 2;
    this.#count += a.length;
  }

  root(): number {
    return Math.sqrt(this.#sum / this.#count);
  }
}
