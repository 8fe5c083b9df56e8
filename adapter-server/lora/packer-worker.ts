/** The packer's thread: checks adapters and packs them, one after the other. */
import { parentPort } from "node:worker_threads";
import { checkAdapter } from "../../sdk/protocol/adapter/check-adapter.ts";
import { invariant } from "../../sdk/protocol/errors.ts";
import { toWireError } from "../engine/messages.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { mixAdapters, packAdapter } from "./pack.ts";
import type { PackerAnswer, PackerTask } from "./packer.ts";
import { toSharedMemory } from "./shared-weights.ts";

invariant(parentPort, "this file is the entry of a worker thread");
const port = parentPort;

port.on("message", ({ id, task }: { id: number; task: PackerTask }) => {
  port.postMessage(answer(id, task));
});

function answer(id: number, task: PackerTask): PackerAnswer {
  try {
    return { id, adapter: toSharedMemory(packed(task)) };
  } catch (error) {
    return { id, error: toWireError(error) };
  }
}

function packed(task: PackerTask): PackedAdapter {
  switch (task.type) {
    case "pack":
      return packAdapter(checkAdapter({ ...task.files, ...task.base }), task.digest);
    case "mix":
      return mixAdapters(task.parts, task);
    default:
      return task satisfies never;
  }
}
