/** What requests change of the logits, through the engine with the demo model. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { argmax, demoGoldens, openDemoRunner } from "../__fixtures__/demo-model.ts";
import { slowlyChanged } from "./__fixtures__/slow-logit-changes.ts";
import { EngineCore } from "./engine-core.ts";
import type { LogitWishes } from "./logit-changes.ts";
import type { ModelRunner } from "./types.ts";

test("each sequence gets its own changes, with guesses and after a preemption", async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), "switchyard-penalty-"));
  // Too few blocks for all: some sequences lose theirs and are computed again.
  const { runner } = await openDemoRunner("f32", cacheDir, { blocks: 21 });
  const allWishes: LogitWishes[] = [
    { repetitionPenalty: 1 },
    { repetitionPenalty: 1.3 },
    { repetitionPenalty: 1, frequencyPenalty: 0.7, presencePenalty: 0.4 },
    { repetitionPenalty: 1.1, logitBias: [[endOfTurn, 30]], minTokens: 58 },
  ];
  const prompts = demoGoldens("base").goldens.map(({ prompt_ids }) => prompt_ids.slice(0, 60));
  const tokens = new Map<number, number[]>();
  const core = new EngineCore({
    runner,
    limits: {
      stepTokensMax: 256,
      prefillChunkMax: 32,
      speculationTokensMax: 8,
      sequencesMax: 8,
      waitingMax: 8,
      slotWaitMsMax: 1,
      priorityAgeMs: 1000,
      waitMsMax: 60_000,
    },
    prefixCache: true,
    nowMs: () => 0,
    emit: (outputs) => {
      for (const { id, token } of outputs) if (token !== undefined) tokens.get(id)?.push(token);
    },
  });
  const maxTokens = 60;
  allWishes.forEach((wishes, id) => {
    tokens.set(id, []);
    const sampling = { ...wishes, temperature: 0, topP: 1, topK: 0, seed: 0, stream: 0 };
    const prompt = prompts[id]!;
    const request = { id, prompt, maxTokens, sampling, stopIds: stopIdsOf(wishes), tenant: "" };
    core.receive({ type: "add", request });
  });
  while (core.hasWork) await core.turn();
  expect(core.stats().preemptions).toBeGreaterThan(0);
  for (const [id, wishes] of allWishes.entries()) {
    const expected = await continuedByHand(runner, prompts[id]!, { wishes, length: maxTokens });
    expect(tokens.get(id)).toEqual(expected);
  }
  expect(tokens.get(3)).toHaveLength(59);
  await runner.close();
  await rm(cacheDir, { recursive: true, force: true });
});

/** One sequence alone, computed anew for each token. */
async function continuedByHand(
  runner: ModelRunner,
  prompt: readonly number[],
  { wishes, length }: { wishes: LogitWishes; length: number },
): Promise<number[]> {
  const output: number[] = [];
  const blocks = Array.from({ length: 12 }, (_, block) => block);
  const stopIds = stopIdsOf(wishes);
  while (output.length < length && !stopIds.includes(output.at(-1) ?? -1)) {
    const tokens = [...prompt, ...output];
    const row = { sequenceId: 0, tokens, position: 0, blocks, slot: 0, samples: 1 };
    const [logits] = await runner.run([], [row]);
    const said = { prompt, output, stopIds };
    output.push(argmax(slowlyChanged(logits!, wishes, said)));
  }
  return output;
}

/** One sequence ends as soon as it may; the others go on until they have too few blocks. */
function stopIdsOf({ minTokens }: LogitWishes): number[] {
  return minTokens === undefined ? [] : [endOfTurn];
}

/** Of the demo model. */
const endOfTurn = 2;
