/** A worker thread that is started anew when it dies, for parts that others cannot do without for long. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Worker } from "node:worker_threads";

export type KeptWorker = {
  /** Asks it to close and waits until it has ended; it is not started again. */
  close(): Promise<void>;
};

export type KeptWorkerOptions = {
  /** The worker says `"ready"` once it serves, and ends itself when it is told `"close"`. */
  start: () => Worker;
  /** Told of every death, and of every start that failed after one. */
  onDeath: (cause: unknown) => void;
};

/**
 * Resolves when the worker serves. Starts after a death are tried for as long as it takes, with waits
 * that grow while they fail.
 * @throws what the first start failed with
 */
export async function keepWorker({ start, onDeath }: KeptWorkerOptions): Promise<KeptWorker> {
  const closing = new AbortController();
  let reviving: Promise<void> | undefined;
  let living: Worker | undefined;

  const startOne = () =>
    new Promise<void>((resolve, reject) => {
      const worker = start();
      let cause: unknown;
      worker.on("message", (message) => {
        if (message !== "ready") return;
        living = worker;
        resolve();
      });
      worker.on("error", (error) => {
        cause = error;
      });
      worker.on("exit", (code) => {
        const why = cause ?? new Error(`the worker ended with code ${code}`);
        const wasReady = living === worker;
        living = undefined;
        if (!wasReady) return reject(why);
        if (closing.signal.aborted) return;
        onDeath(why);
        reviving = revive();
      });
    });

  const revive = async () => {
    for (let waitMs = 100; !closing.signal.aborted; waitMs = Math.min(2 * waitMs, waitMsMax)) {
      try {
        return await startOne();
      } catch (error) {
        onDeath(error);
        await sleep(waitMs, undefined, { signal: closing.signal }).catch(() => {});
      }
    }
  };

  await startOne();
  return {
    async close() {
      closing.abort();
      await reviving;
      const worker = living;
      if (!worker) return;
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      worker.postMessage("close");
      await ended;
    },
  };
}

const waitMsMax = 30_000;
