/** Scores the demo adapters on their test sets, all four in the same batches, in exact, 8-bit and 4-bit weights. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { demoScored, openScored } from "../__fixtures__/scored-models.ts";
import { scoreTasks } from "../__fixtures__/task-scores.ts";
import type { ModelFormat } from "./import-model.ts";

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-accuracy-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

/** One of each kind; `npm run bench -- accuracy` scores the others too, and a real model. */
const formats: ModelFormat[] = ["f32", "int8", "int4"];
describe.each(formats)("%s weights", (format) => {
  test("every task scores within two points of the float32 reference", async () => {
    const scored = demoScored();
    const demo = await openScored(scored, format, cacheDir);
    const scores = await scoreTasks(demo, scored.tasks);
    await demo.runner.close();
    for (const { name, reference } of scored.tasks) {
      console.warn(`${format} ${name}: ${scores[name]} (float32 reference ${reference})`);
    }
    for (const { name, reference } of scored.tasks) {
      expect(scores[name], name).toBeGreaterThanOrEqual(reference - 0.02);
    }
  });
});
