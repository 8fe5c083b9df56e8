/** Whole quantized checkpoints compute what the reference computes with their dequantized weights. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { generate, openDemoRunner } from "../../__fixtures__/demo-model.ts";
import { expectGoldens } from "../../__fixtures__/goldens.ts";

const fixtures = fileURLToPath(new URL("__fixtures__", import.meta.url));
const kinds = ["gptq-act-order", "gptq-v2-8bit", "awq", "compressed-tensors"];

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-quantized-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

test.each(kinds)("%s computes its goldens", async (kind) => {
  const folder = join(fixtures, kind);
  const demo = await openDemoRunner("f32", cacheDir, { folder });
  const { cases } = JSON.parse(await readFile(join(folder, "goldens.json"), "utf8"));
  await expectGoldens(demo, cases, 0);
  await demo.runner.close();
});

test.each(["int8", "int4"] as const)(
  "a quantized checkpoint is imported as %s too",
  async (format) => {
    const folder = join(fixtures, "gptq-act-order");
    const demo = await openDemoRunner(format, cacheDir, { folder });
    const { cases } = JSON.parse(await readFile(join(folder, "goldens.json"), "utf8"));
    const [first] = await generate(
      demo.runner,
      [{ tokens: cases[1].prompt, slot: 0, tokensMax: 1 }],
      { ends: [] },
    );
    expect(first!.firstLogits.every(Number.isFinite)).toBe(true);
    await demo.runner.close();
  },
);
