/** Small random checkpoints and adapters with exact goldens, where the shared fixtures are at hand. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type DemoRunner,
  generate,
  largestDifference,
  openDemoRunner,
  readAdapter,
} from "../__fixtures__/demo-model.ts";
import { importModel } from "./import-model.ts";

const fixtures = fileURLToPath(new URL("../../../shared/fixtures/families", import.meta.url));
const missing = !existsSync(fixtures);
/** Logits have a standard deviation of 4; the reference's own implementations differ by 4e-5. */
const tolerance = 1e-3;

type Case = {
  prompt: number[];
  logits_f32le_b64: string;
  greedy: { tokens: number[]; gaps: number[] };
};

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-families-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe.skipIf(missing)("families fixtures (skipped without ../shared)", () => {
  test.each(["llama-gqa", "llama3-rope", "llama-linear-rope", "llama-yarn"])(
    "%s computes its goldens",
    async (name) => {
      const folder = join(fixtures, "models", name);
      const demo = await openDemoRunner("f32", cacheDir, { folder });
      const { cases } = readJson(join(folder, "goldens.json"));
      await expectGoldens(demo, cases, 0);
      await demo.runner.close();
    },
  );

  test("a config in the older spelling gives the same model", async () => {
    const folder = await mkdtemp(join(cacheDir, "legacy-"));
    await cp(join(fixtures, "models/llama3-rope"), folder, { recursive: true });
    await cp(join(folder, "legacy"), folder, { recursive: true });
    const demo = await openDemoRunner("f32", cacheDir, { folder });
    await expectGoldens(demo, readJson(join(folder, "goldens.json")).cases, 0);
    await demo.runner.close();
  });

  test.each(["qwen2", "qwen3", "mistral"])("%s is refused by name", async (name) => {
    const folder = join(fixtures, "models", name);
    await expect(importModel({ folder, format: "f32", cacheDir })).rejects.toThrow(
      /'(Qwen2|Qwen3|Mistral)ForCausalLM'/,
    );
  });

  test("every adapter that is plain LoRA answers as PEFT does, eight in a batch", async () => {
    const root = join(fixtures, "adapters/llama-gqa");
    const adapters = readdirSync(root)
      .map((name) => ({ name, expected: readJson(join(root, name, "expect.json")) }))
      .filter(
        ({ expected }) => expected.serve === "exact" && !expected.also_ok?.includes("refuse"),
      );
    const folder = join(fixtures, "models/llama-gqa");
    const demo = await openDemoRunner("f32", cacheDir, { folder, rankMax: 64 });
    for (let from = 0; from < adapters.length; from += 8) {
      const batch = adapters.slice(from, from + 8);
      for (const [index, { name }] of batch.entries()) {
        const adapter = await readAdapter(join(root, name, "adapter"), demo.model.shape);
        demo.runner.loadSlot(index + 1, adapter);
      }
      for (const [index, { expected }] of batch.entries()) {
        await expectGoldens(demo, expected.goldens.cases, index + 1);
      }
    }
    expect(adapters.length).toBeGreaterThan(15);
    await demo.runner.close();
  });
});

async function expectGoldens({ runner }: DemoRunner, cases: Case[], slot: number): Promise<void> {
  const prompts = cases.map(({ prompt, greedy }) => ({
    tokens: prompt,
    slot,
    tokensMax: greedy.tokens.length,
  }));
  const generated = await generate(runner, prompts, { ends: [] });
  cases.forEach(({ logits_f32le_b64, greedy }, index) => {
    const bytes = new Uint8Array(Buffer.from(logits_f32le_b64, "base64"));
    const logits = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    expect(largestDifference(generated[index]!.firstLogits, logits)).toBeLessThan(tolerance);
    const tie = greedy.gaps.findIndex((gap) => gap < tolerance);
    const certain = tie === -1 ? greedy.tokens.length : tie;
    expect(generated[index]!.tokens.slice(0, certain)).toEqual(greedy.tokens.slice(0, certain));
  });
}

function readJson(path: string) {
  return JSON.parse(readFileSync(path, "utf8"));
}
