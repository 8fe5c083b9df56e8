/** A packer's thread: tells what adapters' files are, checks them and packs them, one after the other. */
import { parentPort } from "node:worker_threads";
import { checkAdapter, isMagnitude } from "../../sdk/protocol/adapter/check-adapter.ts";
import { countOf, parseSafetensors } from "../../sdk/protocol/adapter/safetensors.ts";
import { invariant } from "../../sdk/protocol/errors.ts";
import { yieldToOtherThreads } from "../background-thread.ts";
import { toWireError } from "../engine/messages.ts";
import type { PackedAdapter } from "../engine/types.ts";
import type { BaseCheckpoint } from "../models/base-matrices.ts";
import type { FileDigests } from "../models/model-digest.ts";
import { type AdapterFiles, digestOfFiles } from "./adapter-source.ts";
import type { Dora } from "./dora.ts";
import { mixAdapters, packAdapter } from "./pack.ts";
import {
  type Identity,
  type PackerAnswer,
  type PackerOrder,
  type PackerThreadTask,
  transferables,
} from "./packer.ts";
import { toSharedMemory } from "./shared-weights.ts";

invariant(parentPort, "this file is the entry of a worker thread");
const port = parentPort;
// Streams feel it when a thread of the engine's waits for a core; who waits for an adapter hardly does.
yieldToOtherThreads();

port.on("message", async (asked: PackerOrder) => {
  const told = await answer(asked);
  port.postMessage(told, "files" in told && told.files ? transferables(told.files) : []);
});

async function answer({ id, task, fileDigests }: PackerOrder): Promise<PackerAnswer> {
  try {
    const result = await compute(task, fileDigests);
    return { id, result, ...("files" in task && { files: task.files }), fileDigests };
  } catch (error) {
    return { id, error: toWireError(error), fileDigests };
  }
}

async function compute(
  task: PackerThreadTask,
  known: FileDigests | undefined,
): Promise<PackedAdapter | Identity> {
  switch (task.type) {
    case "identify":
      return identify(task.files, task.expected);
    case "pack":
      return pack(task, known);
    case "mix":
      return toSharedMemory(mixAdapters(task.parts, task), task.memory);
    default:
      return task satisfies never;
  }
}

async function pack(
  task: Extract<PackerThreadTask, { type: "pack" }>,
  known: FileDigests | undefined,
): Promise<PackedAdapter> {
  const { files, digest, base, checkpoint, memory } = task;
  const checked = checkAdapter({ ...files, ...base });
  const dora = checkpoint && (await doraOver(checkpoint, known));
  return packAdapter(checked, digest, { memory, scale: dora?.scale });
}

/** Kept, since opening it may read the whole checkpoint; a server has one base. */
let opened: { digest: string; dora: Dora } | undefined;

async function doraOver(checkpoint: BaseCheckpoint, known: FileDigests | undefined): Promise<Dora> {
  if (opened?.digest === checkpoint.digest) return opened.dora;
  const before = opened;
  opened = undefined;
  await before?.dora.close();
  // Loaded when it is needed: who serves plain LoRA has no native runtime in this thread.
  const { openDora } = await import("./dora.ts");
  const dora = await openDora(checkpoint, known);
  opened = { digest: checkpoint.digest, dora };
  return dora;
}

function identify(files: AdapterFiles, expected: string | undefined): Identity {
  const digest = digestOfFiles(files);
  // What is wrong with files that nobody asked for is not worth a word.
  if (expected !== undefined && digest !== expected) {
    return { digest, memoryBytes: 0, needsBase: false };
  }
  const tensors = [...parseSafetensors(files.weights).tensors.values()];
  const values = tensors.reduce((sum, tensor) => sum + countOf(tensor), 0);
  const needsBase = tensors.some(({ name }) => isMagnitude(name));
  return { digest, memoryBytes: values * Float32Array.BYTES_PER_ELEMENT, needsBase };
}
