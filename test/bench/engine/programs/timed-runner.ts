/**
 * The model runner with a clock around its native calls: the engine's worker loads it in place of the real
 * one, which is left as it is and pays nothing for being measured.
 */
import { createRequire } from "node:module";
import ort from "onnxruntime-node";
import {
  createRunner as createModelRunner,
  type ModelRunnerOptions,
} from "../../../../adapter-server/engine/model-runner.ts";
import type { ModelRunner } from "../../../../adapter-server/engine/types.ts";

/** Milliseconds and counts since the worker's start; others read them from shared memory. */
export const timingFields = ["calls", "sessionMs", "nativeMs"] as const;

export type TimedRunnerOptions = ModelRunnerOptions & {
  /** A number for each of `timingFields`. */
  timings: Float64Array;
};

export async function createRunner(options: TimedRunnerOptions): Promise<ModelRunner> {
  const { timings, ...runnerOptions } = options;
  timeNativeCalls(timings);
  const create = ort.InferenceSession.create.bind(ort.InferenceSession);
  // @ts-expect-error: a model comes by its path or as bytes, and goes on as it came.
  ort.InferenceSession.create = async (
    model: string,
    settings: ort.InferenceSession.SessionOptions,
  ) => timeSession(await create(model, settings), timings);
  return createModelRunner(runnerOptions);
}

function timeSession(session: ort.InferenceSession, timings: Float64Array): ort.InferenceSession {
  const run = session.run.bind(session) as AnyRun;
  const timed: AnyRun = async (...call) => {
    const startedAt = performance.now();
    const outputs = await run(...call);
    add(timings, "sessionMs", performance.now() - startedAt);
    add(timings, "calls", 1);
    return outputs;
  };
  session.run = timed;
  return session;
}

/** Any of its overloads. */
type AnyRun = (...call: unknown[]) => Promise<ort.InferenceSession.OnnxValueMapType>;

/** The call into the library itself; `session.run` has some of ONNX Runtime's JavaScript around it. */
function timeNativeCalls(timings: Float64Array): void {
  const require = createRequire(import.meta.url);
  const { binding } = require("onnxruntime-node/dist/binding") as {
    binding: { InferenceSession: new () => { run(...call: unknown[]): unknown } };
  };
  binding.InferenceSession = class extends binding.InferenceSession {
    override run(...call: unknown[]): unknown {
      const startedAt = performance.now();
      const outputs = super.run(...call);
      add(timings, "nativeMs", performance.now() - startedAt);
      return outputs;
    }
  };
}

function add(timings: Float64Array, field: (typeof timingFields)[number], value: number): void {
  const at = timingFields.indexOf(field);
  timings[at] = (timings[at] ?? 0) + value;
}
