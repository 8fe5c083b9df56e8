/**
 * SmolLM2-135M-Instruct, a real model in a GGUF file, with two adapters trained on public data, against the
 * float32 reference. Skipped where the fixtures or the file are not at hand; `../shared/fixtures/smollm2/fetch` brings the file.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DemoRunner, openDemoRunner, readAdapter } from "../__fixtures__/demo-model.ts";
import { expectGoldens, type GoldenCase } from "../__fixtures__/goldens.ts";
import { createChatTemplate, type TemplateMessage } from "./templates/chat-template.ts";
import { createTokenizer } from "./tokenizer.ts";

const fixtures = fileURLToPath(new URL("../../../shared/fixtures/smollm2", import.meta.url));
const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
const file = join(cache, "switchyard-fixtures/SmolLM2-135M-Instruct.Q4_1.gguf");
const missing = !existsSync(fixtures) || !existsSync(file);

const adapters = ["banking-intent", "restaurant-slots"] as const;

type Case = GoldenCase & { messages: TemplateMessage[]; text: string };

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-smollm2-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

describe.skipIf(missing)("SmolLM2-135M (skipped without ../shared and the fetched file)", () => {
  test("computes its goldens, the base's and both adapters'", async () => {
    const demo = await open();
    const { encode, template } = textOf(demo);
    for (const [slot, name] of ["base", ...adapters].entries()) {
      const cases: Case[] = JSON.parse(read(`goldens/${name}.json`)).cases;
      for (const { messages, text, prompt } of cases) {
        expect(template.render(messages)).toBe(text);
        expect(encode(text)).toEqual(prompt);
      }
      await expectGoldens(demo, cases, slot);
    }
    await demo.runner.close();
  });
});

/** Each adapter in its slot, slots from 1. */
async function open(): Promise<DemoRunner> {
  const demo = await openDemoRunner("f32", cacheDir, { folder: file });
  for (const [index, name] of adapters.entries()) {
    const adapter = await readAdapter(join(fixtures, "adapters", name), demo.model.shape);
    demo.runner.loadSlot(index + 1, adapter);
  }
  return demo;
}

function textOf({ model }: DemoRunner) {
  const tokenizer = createTokenizer(model.tokenizer);
  const template = createChatTemplate(model.chatTemplate ?? "", tokenizer.specialTokens);
  return { ...tokenizer, template };
}

function read(path: string): string {
  return readFileSync(join(fixtures, path), "utf8");
}
