/** The thread of a model's graphs: opens them, is given the keys and values, and computes one call after the other. */
import { parentPort, workerData } from "node:worker_threads";
import { invariant } from "../../sdk/protocol/errors.ts";
import { GraphCalls, type Graphs, openGraphs } from "./graph-calls.ts";
import {
  type FromGraphWorker,
  type GraphWorkerOptions,
  notOpened,
  type ToGraphWorker,
} from "./graph-thread.ts";
import { KeyValuePool } from "./key-value-pool.ts";
import { toWireError } from "./messages.ts";
import { sessionOptions } from "./session-options.ts";
import type { StepRow } from "./types.ts";

invariant(parentPort, "this file is the entry of a worker thread");
await serve(parentPort, workerData as GraphWorkerOptions);

async function serve(
  port: NonNullable<typeof parentPort>,
  options: GraphWorkerOptions,
): Promise<void> {
  const tell = (answer: FromGraphWorker, transferred: ArrayBuffer[] = []) =>
    port.postMessage(answer, transferred);
  const graphs = await openAll(options).catch((cause: unknown) => {
    tell({ type: "failed", error: toWireError(notOpened(cause)) });
    return undefined;
  });
  if (!graphs) return;
  tell({ type: "opened" });
  const { slots, rankMax } = options;
  let pool: KeyValuePool | undefined;
  let calls: GraphCalls | undefined;

  port.on("message", async (message: ToGraphWorker) => {
    switch (message.type) {
      case "begin":
        pool = new KeyValuePool(options.pool, message.pool);
        calls = new GraphCalls({ ...options.pool, graphs, pool, slots, rankMax });
        return;
      case "load":
        calls?.adapters.load(message.slot, message.adapter);
        return;
      case "clear":
        calls?.adapters.clear(message.slot);
        return;
      case "copy":
        pool?.copy(message.from, message.to);
        return;
      case "run":
        invariant(calls, "it has begun before it is asked for anything");
        await run(calls, message.rows);
        return;
      case "close":
        await Promise.all(Object.values(graphs).map((graph) => graph.close()));
        port.close();
        return;
      default:
        message satisfies never;
    }
  });

  async function run(calls: GraphCalls, rows: readonly StepRow[]): Promise<void> {
    const result = await calls.run(rows).then(
      // What the runtime made belongs to its own memory, which cannot change hands.
      ({ logits, peaks, states }) => ({
        logits: logits.slice(),
        peaks: peaks.slice(),
        states: states.slice(),
      }),
      toWireError,
    );
    const made = "code" in result ? [] : Object.values(result);
    const copies = calls.adapters.takeLoads();
    tell(
      { type: "ran", result, copies },
      made.map(({ buffer }) => buffer as ArrayBuffer),
    );
  }
}

async function openAll({ paths, threads }: GraphWorkerOptions): Promise<Graphs> {
  return openGraphs(paths, await sessionOptions(threads));
}
