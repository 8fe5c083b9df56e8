/**
 * Checks and packs adapters in a thread of its own: one of rank 64 for a model of a billion parameters
 * takes more than a second, in which nobody else would get a token or an answer.
 */
import type { Worker } from "node:worker_threads";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { fromWireError, type WireError } from "../engine/messages.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { startWorker } from "../start-worker.ts";
import type { AdapterFiles } from "./adapter-source.ts";
import type { MixPart } from "./pack.ts";

export type PackerTask =
  | {
      type: "pack";
      files: AdapterFiles;
      digest: string;
      /** What the adapter has to fit. */
      base: { shape: BaseShape; rankMax: number };
    }
  | { type: "mix"; parts: MixPart[]; digest: string; rankMax: number };

export type PackerAnswer =
  | { id: number; adapter: PackedAdapter }
  | { id: number; error: WireError };

export type Packer = {
  /** The adapter in shared memory. @throws HubError what is wrong with it */
  pack(task: PackerTask): Promise<PackedAdapter>;
  close(): Promise<void>;
};

/** The thread is started now; one that died is started again by the next task. */
export function openPacker(startThread: typeof startWorker = startWorker): Packer {
  const waiting = new Map<number, (answer: PackerAnswer | Error) => void>();
  let nextId = 0;
  let worker: Worker | undefined;

  const start = (): Worker => {
    const started = startThread(new URL("./packer-worker.ts", import.meta.url));
    let cause: Error | undefined;
    // Nobody stays alive for it.
    started.unref();
    started.on("message", (answer: PackerAnswer) => {
      waiting.get(answer.id)?.(answer);
      waiting.delete(answer.id);
    });
    started.on("error", (error) => {
      cause = error instanceof Error ? error : new Error(String(error));
    });
    started.on("exit", () => {
      worker = undefined;
      const why = new Error("the thread that packs adapters died", { cause });
      for (const settle of waiting.values()) settle(why);
      waiting.clear();
    });
    return started;
  };
  worker = start();

  return {
    async pack(task) {
      const running = worker ?? start();
      worker = running;
      const answer = await new Promise<PackerAnswer | Error>((resolve) => {
        const id = nextId++;
        waiting.set(id, resolve);
        running.ref();
        running.postMessage({ id, task });
      });
      if (waiting.size === 0) running.unref();
      if (answer instanceof Error) throw answer;
      if ("error" in answer) throw fromWireError(answer.error);
      return answer.adapter;
    },
    async close() {
      await worker?.terminate();
    },
  };
}
