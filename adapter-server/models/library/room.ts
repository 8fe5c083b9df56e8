/** Whether a model has room on this machine, told before anything large is tried. */
import { mkdir, statfs } from "node:fs/promises";
import { totalmem } from "node:os";
import type { SingleFormat } from "../graph-files.ts";
import type { ModelFormat } from "../import-model.ts";
import { folderBytes } from "./files.ts";
import { LibraryError } from "./library-error.ts";
import type { SourceFacts } from "./source-facts.ts";

export type Machine = {
  /** What this process may use at most. */
  memoryBytes: number;
  freeDiskBytes(folder: string): Promise<number>;
};

/** The machine's memory, or the container's where that is less. */
export function thisMachine(): Machine {
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return {
    memoryBytes: Math.min(totalmem(), limit),
    async freeDiskBytes(folder) {
      await mkdir(folder, { recursive: true });
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize;
    },
  };
}

/** About how many bytes an import takes on the disk: weights lie there as they are, and as kernels take them. */
export function importDiskBytes(
  facts: SourceFacts,
  format: ModelFormat,
  singleStream?: SingleFormat | undefined,
): number {
  const bytes = bytesPerParameter[format] + (singleStream ? bytesPerParameter[singleStream] : 0);
  return Math.ceil(2 * facts.parameters * bytes + embeddingBytes(facts, format));
}

/** About how many bytes of memory its weights take while it is served. */
function importMemoryBytes(facts: SourceFacts, format: ModelFormat): number {
  return Math.ceil(facts.parameters * bytesPerParameter[format] + embeddingBytes(facts, format));
}

/** The embedding, beside the output matrix that may be made of it. */
function embeddingBytes(facts: SourceFacts, format: ModelFormat): number {
  const { vocabSize = 0, hiddenSize = 0 } = facts;
  if (format === "f32" || vocabSize * hiddenSize === 0) return facts.embeddingBytes;
  return vocabSize * hiddenSize * bytesPerParameter["int8-blocks"];
}

/** @returns what to tell when the model does not fit into memory, in any sense of fitting */
export function memoryWarning(
  facts: SourceFacts,
  format: ModelFormat,
  { memoryBytes }: Machine,
): { message: string; hint: string } | undefined {
  // What is chosen by measuring takes 4 bits where 8 do not fit.
  const needed = importMemoryBytes(facts, format === "auto" ? "int4" : format);
  if (needed <= memoryBytes) return undefined;
  const fitting = formatsBySize.find((other) => importMemoryBytes(facts, other) <= memoryBytes);
  return {
    message: `As ${format} this model takes about ${gibibytes(needed)} of memory, and this machine has ${gibibytes(memoryBytes)}.`,
    hint: fitting
      ? `As ${fitting} it takes about ${gibibytes(importMemoryBytes(facts, fitting))}: --format ${fitting}. Or import it all the same with --force, to serve it elsewhere.`
      : "No format of it fits. Take a smaller model, or import it with --force, to serve it elsewhere.",
  };
}

/**
 * What `auto` chose on a larger machine may not fit into this one's memory, to which the data folder came.
 * @returns what to tell then
 */
export async function importWarning(
  folder: string,
  { memoryBytes }: Machine,
): Promise<string | undefined> {
  // Weights lie there twice, as they are and as kernels take them; only the latter are read.
  const needed = (await folderBytes(folder)) / 2;
  if (needed <= memoryBytes) return undefined;
  return `This import takes about ${gibibytes(needed)} of memory, and this machine has ${gibibytes(memoryBytes)}. Import the model anew in a smaller format, such as int4.`;
}

/** @returns what to tell before a download of which no format would fit into this machine's memory */
export function downloadWarning(parameters: number, { memoryBytes }: Machine): string | undefined {
  const smallest = parameters * bytesPerParameter["int4-128"];
  if (smallest <= memoryBytes) return undefined;
  return `Even as int4-128 this model takes about ${gibibytes(smallest)} of memory, and this machine has ${gibibytes(memoryBytes)}.`;
}

/** @throws LibraryError `disk_full` when the bytes would not fit, with some left for others */
export async function checkDisk(
  neededBytes: number,
  { folder, what, machine }: { folder: string; what: string; machine: Machine },
): Promise<void> {
  const free = await machine.freeDiskBytes(folder);
  if (neededBytes + spareDiskBytes <= free) return;
  throw new LibraryError(
    "disk_full",
    `${what} takes ${gibibytes(neededBytes)}, and the disk of ${folder} has ${gibibytes(free)} free.`,
    {
      hint: "Make room (see 'switchyard models list' and 'models remove'), or set SWITCHYARD_DATA_DIR to a folder on a larger disk.",
    },
  );
}

function gibibytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return `${Math.max(bytes === 0 ? 0 : 0.1, bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Measured on SmolLM2-135M's shapes, rounded up; 4-bit formats keep some matrices in 8 bits. */
const bytesPerParameter: Record<ModelFormat, number> = {
  // With 8 bits; where there is too little memory for them, 4 are chosen.
  auto: 1.07,
  f32: 4,
  int8: 1.05,
  "int8-a16": 1.05,
  "int8-blocks": 1.07,
  mix: 1.07,
  int4: 0.78,
  "int4-128": 0.72,
};
const formatsBySize: readonly ModelFormat[] = ["int8", "int4", "int4-128"];
/** A full disk stops more than this command. */
const spareDiskBytes = 64 * 2 ** 20;
