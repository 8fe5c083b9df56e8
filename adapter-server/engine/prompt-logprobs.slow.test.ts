/** How likely prompts were, through the whole engine, against the float32 reference. */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { demoAdapter, demoGoldens, demoShape, openDemoRunner } from "../__fixtures__/demo-model.ts";
import { EngineCore } from "./engine-core.ts";
import type { PromptLogprobs } from "./logprobs.ts";
import type { ModelRunner } from "./types.ts";

const fixtures = fileURLToPath(new URL("../../../shared/fixtures/families/", import.meta.url));
/** Reference and engine add in other orders; logits have a standard deviation of 3 to 4. */
const tolerance = 1e-3;

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "switchyard-scores-"));
});
afterAll(() => rm(cacheDir, { recursive: true, force: true }));

type Prompt = { tokens: readonly number[]; adapter?: string | undefined };

/** All prompts at once, in chunks and steps that cut them anywhere. */
async function score(
  runner: ModelRunner,
  prompts: readonly Prompt[],
  adapters: Parameters<ModelRunner["loadSlot"]>[1][] = [],
): Promise<PromptLogprobs[][]> {
  const found = prompts.map((): PromptLogprobs[] => []);
  const core = new EngineCore({
    runner,
    limits: {
      ...{ stepTokensMax: 64, prefillChunkMax: 13, scoredTokensMax: 21, sequencesMax: 16 },
      ...{
        speculationTokensMax: 8,
        waitingMax: 100,
        priorityAgeMs: 10_000,
        slotWaitMsMax: 1,
        waitMsMax: 60_000,
      },
    },
    prefixCache: true,
    nowMs: () => 0,
    emit: (outputs) => {
      for (const { id, promptLogprobs, error } of outputs) {
        expect(error).toBeUndefined();
        if (promptLogprobs) found[id] = [...promptLogprobs];
      }
    },
  });
  for (const adapter of adapters) core.receive({ type: "adapter", adapter });
  const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 };
  prompts.forEach(({ tokens: prompt, adapter }, id) => {
    const request = { id, prompt, adapter, maxTokens: 2, sampling, stopIds: [], tenant: "" };
    core.receive({ type: "add", request: { ...request, promptLogprobs: 3 } });
  });
  while (core.hasWork) await core.turn();
  return found;
}

function expectClose(found: readonly PromptLogprobs[], expected: readonly number[]): void {
  expect(found).toHaveLength(expected.length);
  for (const [index, { logprob, rank, token, top }] of found.entries()) {
    expect(Math.abs(logprob - expected[index]!)).toBeLessThan(tolerance);
    expect(rank === 1).toBe(top[0]?.token === token);
    if (rank <= 3) expect(top[rank - 1]?.logprob).toBe(logprob);
  }
}

test("prompts of the demo model are as likely as the reference finds them, base and adapter together", async () => {
  const { runner } = await openDemoRunner("f32", cacheDir);
  const adapter = await demoAdapter("support-triage", demoShape);
  const base = demoGoldens("base").goldens;
  const adapted = demoGoldens("support-triage").goldens;
  const prompts = [
    ...base.map(({ prompt_ids: tokens }) => ({ tokens })),
    ...adapted.map(({ prompt_ids: tokens }) => ({ tokens, adapter: adapter.digest })),
  ];
  const found = await score(runner, prompts, [adapter]);
  for (const [index, { prompt_logprobs }] of [...base, ...adapted].entries()) {
    expectClose(found[index]!, prompt_logprobs);
  }
  await runner.close();
});

test
  .skipIf(!existsSync(fixtures))
  .each([
    "models/llama-gqa",
    "models/qwen2",
    "models/qwen3",
    "models/mistral",
    "later/phi3",
    "later/gemma3",
  ])("prompts of %s are as likely as the reference finds them [needs ../shared]", async (name) => {
  const folder = join(fixtures, name);
  const { runner } = await openDemoRunner("f32", cacheDir, { folder });
  const text = readFileSync(join(folder, "goldens.json"), "utf8");
  const { cases } = JSON.parse(text) as {
    cases: { prompt: number[]; prompt_logprobs: number[] }[];
  };
  const found = await score(
    runner,
    cases.map(({ prompt: tokens }) => ({ tokens })),
  );
  for (const [index, { prompt_logprobs }] of cases.entries()) {
    expectClose(found[index]!, prompt_logprobs);
  }
  await runner.close();
});
