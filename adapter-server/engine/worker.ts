/** The engine's thread: makes the runner, then turns the loop while there is work and sleeps when not. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { invariant } from "../../sdk/protocol/errors.ts";
import { EngineCore } from "./engine-core.ts";
import { GrammarMasks } from "./grammar-masks.ts";
import type { FromWorker, ToWorker, WorkerOptions } from "./messages.ts";
import type { ModelRunner } from "./types.ts";

/** Before the call below, which does not return while the engine lives. */
const statsEveryMs = 100;

invariant(parentPort, "this file is the entry of a worker thread");
await serve(parentPort, workerData as WorkerOptions);

async function serve(port: NonNullable<typeof parentPort>, options: WorkerOptions): Promise<void> {
  const tell = (message: FromWorker) => port.postMessage(message);
  const { createRunner } = (await import(options.runner.module)) as RunnerFactory;
  const runner = await createRunner(options.runner.options);
  const nowMs = () => performance.now();
  const { grammars } = options;
  const masks = grammars && new GrammarMasks(grammars, runner.dims.vocabSize, nowMs);
  let wake = () => {};
  const core = new EngineCore({
    runner,
    masks,
    onWork: () => wake(),
    callRecord: options.callRecord,
    limits: options.limits,
    prefixCache: options.prefixCache,
    nowMs,
    emit: (outputs) => tell({ type: "outputs", outputs }),
    onKnown: (digest, error) => tell({ type: "known", digest, error }),
    onForgotten: (digest) => tell({ type: "forgotten", digest }),
  });
  let toldStatsAtMs = Number.NEGATIVE_INFINITY;
  const tellStats = () => {
    toldStatsAtMs = performance.now();
    tell({ type: "stats", stats: core.stats() });
  };

  let closing = false;
  port.on("message", (message: ToWorker) => {
    if (message.type === "close") closing = true;
    else core.receive(message);
    wake();
  });
  const { dims, blocks, blockSize, slots, rankMax } = runner;
  tell({ type: "ready", facts: { dims, blocks, blockSize, slots, rankMax } });

  while (!closing) {
    if (core.hasWork) {
      await core.turn();
      if (!core.hasWork || performance.now() - toldStatsAtMs > statsEveryMs) tellStats();
      // One turn of the event loop between steps lets messages in.
      await nextTurn();
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      // What was sent with the first message, such as the other choices of a request, begins with it.
      await nextTurn();
    }
  }
  await masks?.end();
  await runner.close();
  port.close();
}

type RunnerFactory = { createRunner: (options: unknown) => Promise<ModelRunner> };
