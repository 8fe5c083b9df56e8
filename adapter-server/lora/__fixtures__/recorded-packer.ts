/** A packer of two threads that tells which tasks they were given, and when. */
import type { Transferable } from "node:worker_threads";
import { startWorker } from "../../start-worker.ts";
import { openPacker, type Packer, type PackerTask } from "../packer.ts";

/** @param begun takes the digests of the tasks that threads were given, in their order */
export function openRecordedPacker(begun: string[]): Packer {
  return openPacker({
    threadsMax: 2,
    startThread: (...given) => {
      const worker = startWorker(...given);
      const post = worker.postMessage.bind(worker);
      worker.postMessage = (message: { task: PackerTask }, transferred?: Transferable[]) => {
        begun.push(message.task.digest);
        post(message, transferred);
      };
      return worker;
    },
  });
}
