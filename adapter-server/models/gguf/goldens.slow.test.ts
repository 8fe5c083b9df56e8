/** Whole GGUF files compute what the reference computes with their dequantized weights, cut into parts or not. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDemoRunner } from "../../__fixtures__/demo-model.ts";
import { expectGoldens } from "../../__fixtures__/goldens.ts";

const fixtures = fileURLToPath(new URL("__fixtures__", import.meta.url));

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-gguf-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

test.each([
  ["phi3-q8_0.gguf", "phi3-q8_0"],
  ["phi3-split-00001-of-00003.gguf", "phi3-q8_0"],
  ["gemma3-q8_0.gguf", "gemma3-q8_0"],
])("%s computes its goldens", async (file, goldens) => {
  const demo = await openDemoRunner("f32", cacheDir, { folder: join(fixtures, file) });
  const { cases } = JSON.parse(await readFile(join(fixtures, `${goldens}.goldens.json`), "utf8"));
  await expectGoldens(demo, cases, 0);
  expect(demo.model.dims.windows).toEqual(file.startsWith("phi3") ? [24] : [Infinity, 16]);
  await demo.runner.close();
});
