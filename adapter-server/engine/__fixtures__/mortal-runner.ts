/** The real runner, in which a prompt's token ends its thread, or the one that computes for it. */
import { createRunner as createRealRunner, type ModelRunnerOptions } from "../model-runner.ts";
import type { ModelRunner } from "../types.ts";

export type MortalRunnerOptions = ModelRunnerOptions & {
  /** Ends the engine's thread. */
  deadlyToken: number;
  /** Ends the thread of the graphs, once there is one. */
  deadlyToThreadToken: number;
};

/** The factory that a worker imports. */
export async function createRunner(options: MortalRunnerOptions): Promise<ModelRunner> {
  const runner = await createRealRunner(options);
  return new Proxy(runner, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (name !== "run") return value.bind(target);
      const run: ModelRunner["run"] = (decode, prefill) => {
        const tokens = [...decode, ...prefill].flatMap((row) => row.tokens);
        if (tokens.includes(options.deadlyToken)) process.exit(1);
        // There is no such slot, which is a fault that nothing catches.
        if (tokens.includes(options.deadlyToThreadToken)) target.clearSlot(target.slots + 1);
        return target.run(decode, prefill);
      };
      return run;
    },
  });
}
