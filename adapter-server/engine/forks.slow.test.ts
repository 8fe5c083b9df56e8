/** Choices of one request over a real model: forked from one prompt they say what they say each by itself. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { demoGoldens, openDemoRunner } from "../__fixtures__/demo-model.ts";
import { EngineCore } from "./engine-core.ts";
import type { SequenceRequest } from "./sequence.ts";
import type { ModelRunner } from "./types.ts";

test.each(["f32", "int8"] as const)(
  "forks share a cache of %s and say what each says alone",
  async (keyValues) => {
    const cacheDir = await mkdtemp(join(tmpdir(), "switchyard-forks-"));
    const { runner } = await openDemoRunner("f32", cacheDir, { blocks: 64, keyValues });
    // 37 tokens: two full blocks and a part of one.
    const prompt = demoGoldens("base")
      .goldens.flatMap(({ prompt_ids }) => prompt_ids)
      .slice(0, 37);
    const choices = [0, 1, 2, 3].map((stream): SequenceRequest => {
      const sampling = { temperature: 1, topP: 1, topK: 0, repetitionPenalty: 1, seed: 5, stream };
      const request = { id: stream + 1, prompt, maxTokens: 24, sampling, stopIds: [], tenant: "" };
      return { ...request, family: 1, logprobs: 1 };
    });
    const forked = await decode(runner, choices);
    for (const [index, choice] of choices.entries()) {
      const alone = await decode(runner, [{ ...choice, family: undefined }]);
      expect(forked.tokens[index]).toEqual(alone.tokens[0]);
    }
    expect(new Set(forked.tokens.map(String)).size).toBe(4);
    // The prompt once, then each choice's tokens but the last.
    expect(forked.computed).toBe(37 + 4 * 23);
    await runner.close();
    await rm(cacheDir, { recursive: true, force: true });
  },
);

async function decode(runner: ModelRunner, requests: readonly SequenceRequest[]) {
  const tokens = requests.map((): number[] => []);
  let computed = 0;
  const counted = new Proxy(runner, {
    get: (target, name: keyof ModelRunner) => {
      const value = target[name];
      if (typeof value !== "function") return value;
      if (name !== "run") return value.bind(target);
      return (...rows: Parameters<ModelRunner["run"]>) => {
        for (const row of rows.flat()) computed += row.tokens.length;
        return target.run(...rows);
      };
    },
  });
  const core = new EngineCore({
    runner: counted,
    limits: {
      ...{ stepTokensMax: 256, prefillChunkMax: 256, speculationTokensMax: 0, sequencesMax: 8 },
      ...{ waitingMax: 8, waitMsMax: 60_000, slotWaitMsMax: 1, priorityAgeMs: 1000 },
    },
    prefixCache: false,
    nowMs: () => 0,
    emit: (outputs) => {
      for (const { id, token, error } of outputs) {
        if (error) throw new Error(error.message);
        const index = requests.findIndex((request) => request.id === id);
        if (token !== undefined) tokens[index]!.push(token);
      }
    },
  });
  for (const request of requests) core.receive({ type: "add", request });
  while (core.hasWork) {
    await core.turn();
    core.check();
  }
  return { tokens, computed };
}
