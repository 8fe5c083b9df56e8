import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  demoFolder,
  generate,
  largestDifference,
  openDemoRunner,
} from "../../__fixtures__/demo-model.ts";
import { openModelSource } from "../model-source.ts";
import { calibrationTokens } from "./calibration-tokens.ts";
import { openProduct } from "./product.ts";
import { computeReference, referenceLogits } from "./reference.ts";

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-reference-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

test("layers one at a time come to the logits of the whole model", async () => {
  const source = await openModelSource(`${demoFolder}/base`);
  const checkpoint = await source.openWeights();
  const product = await openProduct(2);
  const sequences = calibrationTokens(source);
  const layers: number[] = [];
  const reference = await computeReference(source.spec, {
    sequences,
    checkpoint,
    threads: 2,
    onLayer: async (layer, sites) => {
      layers.push(layer);
      expect(sites.map(({ site }) => site)).toEqual(["qkv", "o", "gateUp", "down"]);
      for (const { x, weight, in: width, out } of sites) {
        expect(x.length).toBe(sequences.flat().length * width);
        expect(weight.length).toBe(out * width);
      }
    },
  });
  expect(layers).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  const logits = await referenceLogits(reference, { checkpoint, spec: source.spec, product });
  await Promise.all([checkpoint.close(), product.close()]);

  const { runner, model } = await openDemoRunner("f32", cacheDir);
  const prompts = reference.positions.map(({ sequence, position }) => ({
    tokens: reference.sequences[sequence]!.slice(0, position + 1),
    slot: 0,
    tokensMax: 1,
  }));
  const whole = await generate(runner, prompts, { ends: [], rowsMax: 16 });
  await runner.close();
  const { vocabSize } = model.dims;
  whole.forEach(({ firstLogits }, index) => {
    const row = logits.subarray(index * vocabSize, (index + 1) * vocabSize);
    expect(largestDifference(row, firstLogits)).toBeLessThan(1e-3);
  });
});

test("of sequences as short as can be something is compared", async () => {
  const { openWeights, spec } = await openModelSource(`${demoFolder}/base`);
  const checkpoint = await openWeights();
  const sequences = [[5], [6, 7, 8]];
  const reference = await computeReference(spec, { sequences, checkpoint, threads: 1 });
  await checkpoint.close();
  expect(reference).toMatchObject({ stride: 3, positions: [{ sequence: 1, position: 2 }] });
});
