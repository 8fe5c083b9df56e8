/**
 * SmolLM2-135M-Instruct, a real model in a GGUF file, with two adapters trained on public data, against the
 * float32 reference. Skipped where the fixtures or the file are not at hand; `../shared/fixtures/smollm2/fetch` brings the file.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DemoRunner } from "../__fixtures__/demo-model.ts";
import { expectGoldens, type GoldenCase } from "../__fixtures__/goldens.ts";
import { openScored, smolLm2Fixtures, smolLm2Scored } from "../__fixtures__/scored-models.ts";
import { scoreTasks } from "../__fixtures__/task-scores.ts";
import { readReport } from "./quantization/report.ts";
import { createChatTemplate, type TemplateMessage } from "./templates/chat-template.ts";
import { createTokenizer } from "./tokenizer.ts";

const scored = smolLm2Scored();

type Case = GoldenCase & { messages: TemplateMessage[]; text: string };

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-smollm2-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe.skipIf(!scored)("SmolLM2-135M (skipped without ../shared and the fetched file)", () => {
  test("computes its goldens, the base's and both adapters'", async () => {
    const demo = await openScored(scored!, "f32", cacheDir);
    const { encode, template } = textOf(demo);
    for (const [slot, name] of ["base", ...scored!.tasks.map(({ name }) => name)].entries()) {
      const cases: Case[] = JSON.parse(read(`goldens/${name}.json`)).cases;
      for (const { messages, text, prompt } of cases) {
        expect(template.render(messages)).toBe(text);
        expect(encode(text)).toEqual(prompt);
      }
      await expectGoldens(demo, cases, slot);
    }
    await demo.runner.close();
  });

  test("as auto chooses, it stays near float32, and its adapters near their scores", async () => {
    const demo = await openScored(scored!, "auto", cacheDir);
    const report = await readReport(dirname(demo.model.graphPath));
    const { cost, matrices = [], candidates = [] } = report ?? {};
    expect(matrices).toHaveLength(30 * 4 + 1);
    expect(cost?.klMean).toBeLessThan(0.025);
    expect(cost?.top1).toBeGreaterThan(0.9);
    expect(candidates[0]?.error).toBeLessThanOrEqual(0.0125);
    const scores = await scoreTasks(demo, scored!.tasks, sampledRows);
    await demo.runner.close();
    for (const { name, reference } of scored!.tasks) {
      // Of so few rows the score itself is uncertain by as much.
      expect(scores[name], name).toBeGreaterThan(reference - 0.12);
    }
  }, 900_000);
});

function textOf({ model }: DemoRunner) {
  const tokenizer = createTokenizer(model.tokenizer);
  const template = createChatTemplate(model.chatTemplate ?? "", tokenizer.specialTokens);
  return { ...tokenizer, template };
}

function read(path: string): string {
  return readFileSync(join(smolLm2Fixtures, path), "utf8");
}

/** All of them are the benchmark's: `npm run bench -- accuracy`. */
const sampledRows = 80;
