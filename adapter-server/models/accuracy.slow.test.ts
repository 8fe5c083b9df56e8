/** Scores the demo adapters on their test sets, all four in the same batches, in each weight format. */
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

const formats: ModelFormat[] = ["f32", "int8", "int8-blocks", "int4", "int4-128"];
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
