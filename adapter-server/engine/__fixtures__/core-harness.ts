/** The engine's loop body over a simulated model, with a clock that only the test moves. */
import { expect } from "vitest";
import { EngineCore } from "../engine-core.ts";
import type { SequenceOutput } from "../messages.ts";
import type { SchedulerLimits } from "../scheduler.ts";
import type { SequenceRequest } from "../sequence.ts";
import { type SimulatedOptions, SimulatedRunner } from "../simulated-runner.ts";

export const limits: SchedulerLimits = {
  stepTokensMax: 12,
  prefillChunkMax: 5,
  speculationTokensMax: 0,
  sequencesMax: 6,
  waitingMax: 100,
  waitMsMax: 1_000_000,
  slotWaitMsMax: 30,
  priorityAgeMs: 100,
};
export const vocabSize = 50;
export const stopIds = [0];

export function setup(
  options: SimulatedOptions = {},
  ownLimits: Partial<SchedulerLimits> = {},
  { prefixCache = true } = {},
) {
  const runner = new SimulatedRunner({ vocabSize, ...options });
  const outputs = new Map<number, SequenceOutput[]>();
  const known: [digest: string, error?: string][] = [];
  const forgotten: string[] = [];
  const clock = { ms: 0 };
  const core = new EngineCore({
    runner,
    limits: { ...limits, ...ownLimits },
    prefixCache,
    nowMs: () => clock.ms,
    emit: (batch) => {
      for (const output of batch) {
        const list = outputs.get(output.id) ?? [];
        list.push(output);
        outputs.set(output.id, list);
      }
    },
    onKnown: (digest, error) => known.push(error ? [digest, error.code] : [digest]),
    onForgotten: (digest) => forgotten.push(digest),
  });
  const turn = async () => {
    clock.ms += 10;
    await core.turn();
    core.check();
  };
  const drain = async () => {
    for (let i = 0; i < 5000 && core.hasWork; i++) await turn();
    expect(core.hasWork).toBe(false);
  };
  const tokensOf = (id: number) =>
    (outputs.get(id) ?? []).flatMap(({ token }) => (token === undefined ? [] : [token]));
  const told = { outputs, known, forgotten };
  return { runner, core, ...told, turn, drain, tokensOf, stats: () => core.stats() };
}

export function request(id: number, rest: Partial<SequenceRequest> = {}): SequenceRequest {
  return {
    id,
    prompt: [id % vocabSize, 7, 8],
    maxTokens: 6,
    sampling: { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 },
    stopIds,
    tenant: "a",
    ...rest,
  };
}

