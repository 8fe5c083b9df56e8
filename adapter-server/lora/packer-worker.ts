/** A packer's thread: tells what adapters' files are, checks them and packs them, one after the other. */
import { parentPort } from "node:worker_threads";
import { checkAdapter } from "../../sdk/protocol/adapter/check-adapter.ts";
import { parseSafetensors } from "../../sdk/protocol/adapter/safetensors.ts";
import { invariant } from "../../sdk/protocol/errors.ts";
import { yieldToOtherThreads } from "../background-thread.ts";
import { toWireError } from "../engine/messages.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { type AdapterFiles, digestOfFiles } from "./adapter-source.ts";
import { mixAdapters, packAdapter } from "./pack.ts";
import {
  type Identity,
  type PackerAnswer,
  type PackerThreadTask,
  transferables,
} from "./packer.ts";
import { toSharedMemory } from "./shared-weights.ts";

invariant(parentPort, "this file is the entry of a worker thread");
const port = parentPort;
// Streams feel it when a thread of the engine's waits for a core; who waits for an adapter hardly does.
yieldToOtherThreads();

port.on("message", ({ id, task }: { id: number; task: PackerThreadTask }) => {
  const told = answer(id, task);
  port.postMessage(told, "files" in told && told.files ? transferables(told.files) : []);
});

function answer(id: number, task: PackerThreadTask): PackerAnswer {
  try {
    return { id, result: compute(task), ...("files" in task && { files: task.files }) };
  } catch (error) {
    return { id, error: toWireError(error) };
  }
}

function compute(task: PackerThreadTask): PackedAdapter | Identity {
  switch (task.type) {
    case "identify":
      return identify(task.files, task.expected);
    case "pack":
      return toSharedMemory(
        packAdapter(checkAdapter({ ...task.files, ...task.base }), task.digest),
        task.memory,
      );
    case "mix":
      return toSharedMemory(mixAdapters(task.parts, task), task.memory);
    default:
      return task satisfies never;
  }
}

function identify(files: AdapterFiles, expected: string | undefined): Identity {
  const digest = digestOfFiles(files);
  // What is wrong with files that nobody asked for is not worth a word.
  if (expected !== undefined && digest !== expected) return { digest, memoryBytes: 0 };
  let values = 0;
  for (const { shape } of parseSafetensors(files.weights).tensors.values()) {
    values += shape.reduce((product, size) => product * size, 1);
  }
  return { digest, memoryBytes: values * Float32Array.BYTES_PER_ELEMENT };
}
