/** The penalty by its definition, and through the engine with the demo model. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { argmax, demoGoldens, openDemoRunner } from "../__fixtures__/demo-model.ts";
import { EngineCore } from "./engine-core.ts";
import { RepetitionPenalty } from "./repetition-penalty.ts";
import type { ModelRunner } from "./types.ts";

test("every token that was said is less likely by the penalty, once, and others are as they were", () => {
  const logits = Float32Array.of(2, -2, 4, 0, -1, 8);
  const penalized = new RepetitionPenalty(6).apply(
    logits,
    [
      [0, 1, 0],
      [3, 0],
    ],
    2,
  );
  expect([...penalized]).toEqual([1, -4, 4, 0, -1, 8]);
  expect([...logits]).toEqual([2, -2, 4, 0, -1, 8]);
});

test("a penalty of 1 changes nothing", () => {
  const logits = Float32Array.of(2, -2);
  expect(new RepetitionPenalty(2).apply(logits, [[0, 1]], 1)).toBe(logits);
});

test("the engine counts prompt and output, for each sequence its own, also after a preemption", async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), "switchyard-penalty-"));
  // Too few blocks for all: some sequences lose theirs and are computed again.
  const { runner } = await openDemoRunner("f32", cacheDir, { blocks: 22 });
  const penalties = [1, 1.1, 1.3, 2];
  const prompts = demoGoldens("base").goldens.map(({ prompt_ids }) => prompt_ids.slice(0, 60));
  const tokens = new Map<number, number[]>();
  let preemptions = 0;
  const core = new EngineCore({
    runner,
    limits: {
      stepTokensMax: 256,
      prefillChunkMax: 32,
      speculationTokensMax: 8,
      sequencesMax: 8,
      waitingMax: 8,
      slotWaitMsMax: 1,
      waitMsMax: 60_000,
    },
    prefixCache: true,
    nowMs: () => 0,
    emit: (outputs, stats) => {
      preemptions = stats.preemptions;
      for (const { id, token } of outputs) if (token !== undefined) tokens.get(id)?.push(token);
    },
  });
  const maxTokens = 60;
  penalties.forEach((repetitionPenalty, id) => {
    tokens.set(id, []);
    const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty, seed: 0, stream: 0 };
    const prompt = prompts[id]!;
    const request = { id, prompt, maxTokens, sampling, stopIds: [], tenant: "" };
    core.receive({ type: "add", request });
  });
  while (core.hasWork) await core.turn();
  expect(preemptions).toBeGreaterThan(0);
  for (const [id, penalty] of penalties.entries()) {
    const expected = await penalizedByHand(runner, prompts[id]!, { penalty, length: maxTokens });
    expect(tokens.get(id)).toEqual(expected);
  }
  await runner.close();
  await rm(cacheDir, { recursive: true, force: true });
});

/** As transformers' RepetitionPenaltyLogitsProcessor has it, one sequence alone, computed anew for each token. */
async function penalizedByHand(
  runner: ModelRunner,
  prompt: readonly number[],
  { penalty, length }: { penalty: number; length: number },
): Promise<number[]> {
  const tokens = [...prompt];
  const blocks = Array.from({ length: 12 }, (_, block) => block);
  while (tokens.length < prompt.length + length) {
    const row = { sequenceId: 0, tokens, position: 0, blocks, slot: 0, samples: 1 };
    const [logits] = await runner.run([], [row]);
    const scores = logits!.map((score, token) => {
      if (!tokens.includes(token)) return score;
      return score < 0 ? score * penalty : score / penalty;
    });
    tokens.push(argmax(scores));
  }
  return tokens.slice(prompt.length);
}
