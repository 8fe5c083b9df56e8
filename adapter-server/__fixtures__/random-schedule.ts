/** Random schedules of sequences over a real runner, and what each of them answers together and alone. */
import { EngineCore } from "../engine/engine-core.ts";
import type { LogitWishes } from "../engine/logit-changes.ts";
import { uniform } from "../engine/philox.ts";
import type { SchedulerLimits } from "../engine/scheduler.ts";
import type { SchedulerStats } from "../engine/scheduler-stats.ts";
import type { SequenceRequest } from "../engine/sequence.ts";
import type { ModelRunner, PackedAdapter } from "../engine/types.ts";

export type Schedule = {
  requests: (SequenceRequest & {
    /** Steps that others have made before it comes. */
    arrival: number;
    /** Steps after which its client leaves, if it does. */
    leaves: number | undefined;
  })[];
  limits: Pick<SchedulerLimits, 
    "stepTokensMax" | "prefillChunkMax" | "sequencesMax" | "speculationTokensMax">;
  /** Blocks of the pool, the null block included. */
  blocks: number;
  prefixCache: boolean;
};

/** What a sequence was answered: its tokens, and the logits that each of them was chosen from. */
export type Answered = { tokens: number[]; logits: Float32Array[]; cachedTokens: number };

/** @param seed the same schedule for the same seed */
export function randomSchedule(
  seed: number,
  { dims, blockSize }: Pick<ModelRunner, "dims" | "blockSize">,
  adapters: readonly PackedAdapter[],
): Schedule {
  let draws = 0;
  const below = (end: number) => Math.floor(uniform(seed, 0, draws++) * end);
  const oneOf = <T>(values: readonly T[]) => values[below(values.length)] as T;
  const words = (length: number) => Array.from({ length }, () => below(dims.vocabSize));
  const beginnings = [words(70), words(70)];
  // Two of the adapters and the base, so that more are wanted than there are slots, and some meet others.
  const weights = [undefined, undefined, oneOf(adapters), oneOf(adapters)];

  const requests = Array.from({ length: 10 }, (_, index) => {
    const shared = oneOf(beginnings).slice(0, oneOf([0, 16, 33, 70]));
    const adapter = oneOf(weights)?.digest;
    const temperature = oneOf([0, 0, 0, 1]);
    return {
      id: index + 1,
      prompt: [...shared, ...words(1 + below(30))],
      maxTokens: 1 + below(36),
      sampling: { ...wishesOf(index), temperature, topP: 0.9, topK: 0, seed, stream: index },
      stopIds: [],
      tenant: oneOf(["a", "a", "b"]),
      arrival: below(12),
      leaves: oneOf([undefined, undefined, undefined, 1 + below(20)]),
      ...(adapter !== undefined && { adapter }),
    };
  });
  const largest = Math.max(...requests.map(({ prompt, maxTokens }) => prompt.length + maxTokens));
  const sequencesMax = oneOf([2, 5, 10]);
  return {
    requests,
    limits: {
      sequencesMax,
      stepTokensMax: oneOf([sequencesMax, 17, 64, 512]),
      prefillChunkMax: oneOf([1, 5, 16, 17, 40, 256]),
      speculationTokensMax: oneOf([0, 8, 30]),
    },
    // From room for hardly more than the largest alone, so that sequences lose their blocks, to enough for all.
    blocks: Math.ceil(largest / blockSize) + oneOf([1, 2, 4, 100]),
    prefixCache: oneOf([true, true, false]),
  };
}

/** Some sequences change what their tokens are chosen from, by what they have said so far. */
function wishesOf(index: number): LogitWishes & { minP?: number } {
  switch (index % 5) {
    case 1:
      return { repetitionPenalty: 1.2, frequencyPenalty: 0.5, minTokens: 4 };
    case 3:
      return { repetitionPenalty: 1, presencePenalty: 0.4, logitBias: [[5, -100], [9, 1.5]], minP: 0.05 };
    default:
      return { repetitionPenalty: 1 };
  }
}

/** Decodes the whole schedule. @returns what each sequence was answered until it left, by its id */
export async function decodeTogether(
  runner: ModelRunner,
  { requests, limits, blocks, prefixCache }: Schedule,
  adapters: readonly PackedAdapter[],
): Promise<{ answered: Map<number, Answered>; stats: SchedulerStats }> {
  const answered = new Map(
    requests.map(({ id }): [number, Answered] => [id, { tokens: [], logits: [], cachedTokens: 0 }]),
  );
  // Of the step under way: a guess that did not hold has logits too, behind those of the tokens that were said.
  const logits = new Map<number, Float32Array[]>();
  const core = new EngineCore({
    runner: listened(runner, blocks, (id, values) => {
      logits.set(id, [...(logits.get(id) ?? []), values]);
    }),
    limits: { ...limits, waitingMax: 1000, waitMsMax: 1e9, slotWaitMsMax: 0, priorityAgeMs: 1000 },
    prefixCache,
    nowMs: () => 0,
    emit: (outputs) => {
      for (const { id, token, error, cachedTokens } of outputs) {
        if (error) throw new Error(`sequence ${id} failed: ${error.message}`);
        const answer = answered.get(id)!;
        if (token !== undefined) {
          answer.tokens.push(token);
          answer.logits.push(logits.get(id)!.shift()!);
        }
        answer.cachedTokens += cachedTokens ?? 0;
      }
      logits.clear();
    },
  });
  for (const adapter of adapters) core.receive({ type: "adapter", adapter });
  const last = Math.max(...requests.map(({ arrival }) => arrival));
  for (let step = 0; step <= last || core.hasWork; step++) {
    for (const { arrival, leaves, ...request } of requests) {
      if (arrival === step) core.receive({ type: "add", request });
      if (leaves !== undefined && arrival + leaves === step) {
        core.receive({ type: "cancel", id: request.id });
      }
    }
    await core.turn();
    core.check();
  }
  return { answered, stats: core.stats() };
}

/** Decodes each sequence by itself, its prompt whole, in a pool that nobody else uses. */
export async function decodeAlone(
  runner: ModelRunner,
  { requests }: Pick<Schedule, "requests">,
  adapters: readonly PackedAdapter[],
): Promise<Map<number, Answered>> {
  const all = new Map<number, Answered>();
  for (const request of requests) {
    const { answered } = await decodeTogether(
      runner,
      {
        requests: [{ ...request, arrival: 0, leaves: undefined }],
        limits: { sequencesMax: 1, stepTokensMax: 512, prefillChunkMax: 512, speculationTokensMax: 0 },
        blocks: runner.blocks,
        prefixCache: false,
      },
      adapters,
    );
    all.set(request.id, answered.get(request.id)!);
  }
  return all;
}

/** The runner with a smaller pool, whose logits are told, by sequence. */
function listened(
  runner: ModelRunner,
  blocks: number,
  hear: (id: number, values: Float32Array) => void,
): ModelRunner {
  const { dims, blockSize, slots, rankMax } = runner;
  return {
    ...{ dims, blockSize, blocks, slots, rankMax },
    async run(decode, prefill) {
      const logits = await runner.run(decode, prefill);
      const rows = [...decode, ...prefill];
      const ids = rows.flatMap((row) => new Array<number>(row.samples).fill(row.sequenceId));
      ids.forEach((id, index) => {
        hear(id, logits[index]!.slice());
      });
      return logits;
    },
    copyBlock: (from, to) => runner.copyBlock(from, to),
    loadSlot: (slot, adapter) => runner.loadSlot(slot, adapter),
    clearSlot: (slot) => runner.clearSlot(slot),
    close: () => runner.close(),
  };
}
