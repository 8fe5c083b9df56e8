/**
 * What JavaScript takes of a step: all of it that is not the call into ONNX Runtime. Scheduling, feeds,
 * storing keys and values, sampling and messages all run in the engine's thread, one after the other.
 */

import { serverLimits } from "../../../../adapter-server/config.ts";
import { type Engine, startEngine } from "../../../../adapter-server/engine/engine.ts";
import { importToLibrary } from "../../../../adapter-server/models/library/import.ts";
import { median } from "../../report.ts";
import { promptOf } from "../contestant.ts";
import { greedy, type OurOptions } from "../ours.ts";
import { type TimedRunnerOptions, timingFields } from "../programs/timed-runner.ts";
import { boundedResult } from "../result.ts";
import { type BenchModel, promptTokens, type Setting } from "../setting.ts";
import type { Lane } from "./table.ts";

const sequences = 8;
const newTokens = 64;
const shareMax = 0.05;

export const javascript: Lane = async function* (setting) {
  for (const model of setting.models) {
    setting.tell(`${model.name}, JavaScript's share`);
    const shares = await measure(setting, model);
    const middle = (of: (share: Share) => number) => median(shares.map(of));
    yield boundedResult({
      name: `${model.name}: JavaScript in a step of ${sequences} sequences`,
      unit: "% of a step",
      ours: 100 * middle(({ outsideSession }) => outsideSession),
      bound: 100 * shareMax,
      notes: [
        `a step takes ${middle(({ stepMs }) => stepMs).toFixed(1)} ms; all that is not in 'session.run' counts. With ONNX Runtime's own JavaScript around its ` +
          `native call it is ${(100 * middle(({ outsideNative }) => outsideNative)).toFixed(1)} %`,
      ],
    });
  }
};

/** Shares of the steps' time, and what one step took. */
type Share = { outsideSession: number; outsideNative: number; stepMs: number };

async function measure(setting: Setting, model: BenchModel): Promise<Share[]> {
  const timings = new Float64Array(new SharedArrayBuffer(8 * timingFields.length));
  const engine = await openTimed(setting.ourOptions(model), timings);
  const shares: Share[] = [];
  for (let round = -1; round < setting.rounds(model); round++) {
    const share = await decodeOnce(engine, timings, round);
    if (round >= 0) shares.push(share);
  }
  await engine.close();
  return shares;
}

/** The engine as a server sets it up, with a runner that writes its times into `timings`. */
async function openTimed(
  { path, format, dataDir, threads }: OurOptions,
  timings: Float64Array,
): Promise<Engine> {
  const { model } = await importToLibrary({ source: path, format, dataDir });
  const { graphPath, blockSize, dims } = model;
  const limits = serverLimits.parse({ speculationTokensMax: 0 });
  const options: TimedRunnerOptions = {
    model: { graphPath, format, blockSize, dims },
    keyValues: limits.kvCacheType,
    blocks: Math.ceil(limits.kvCacheTokens / blockSize) + 1,
    slots: limits.adapterSlots,
    rankMax: limits.adapterRankMax,
    threads,
    timings,
  };
  return startEngine({
    runner: { module: new URL("../programs/timed-runner.ts", import.meta.url).href, options },
    limits,
    prefixCache: false,
    restartsMax: 0,
    downMs: limits.engineDownMs,
    onFault: (message, cause) => console.error(message, cause),
  });
}

/** All sequences at once; the clocks are read twice while every one of them takes part in every step. */
async function decodeOnce(engine: Engine, timings: Float64Array, round: number): Promise<Share> {
  const read = () => {
    const [calls = 0, sessionMs = 0, nativeMs = 0] = timings;
    return { atMs: performance.now(), calls, sessionMs, nativeMs };
  };
  let begun: ReturnType<typeof read> | undefined;
  let ended: ReturnType<typeof read> | undefined;
  const decode = async (stream: number) => {
    let tokens = 0;
    for await (const batch of engine.generate({
      prompt: promptOf(promptTokens, (round + 2) * 1000 + stream),
      maxTokens: newTokens,
      sampling: greedy(stream),
      stopIds: [],
      tenant: "bench",
    })) {
      tokens += batch.tokens.length;
      if (tokens >= newTokens / 4) begun ??= read();
      if (tokens >= newTokens - 2) ended ??= read();
    }
  };
  await Promise.all(Array.from({ length: sequences }, (_, stream) => decode(stream)));
  if (!begun || !ended) throw new Error("the sequences ended early");
  const elapsed = ended.atMs - begun.atMs;
  return {
    outsideSession: 1 - (ended.sessionMs - begun.sessionMs) / elapsed,
    outsideNative: 1 - (ended.nativeMs - begun.nativeMs) / elapsed,
    stepMs: elapsed / (ended.calls - begun.calls),
  };
}
