/** Reads a Hugging Face checkpoint folder: its small files, and its tensors a few rows at a time. */
import { access, type FileHandle, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  parseSafetensorsHeader,
  readTensor,
  safetensorsHeaderBytes,
  type TensorEntry,
} from "../../sdk/protocol/adapter/safetensors.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { WeightFiles } from "./model-source.ts";

type StoredTensor = TensorEntry & { file: FileHandle };

/** The open weight files of a checkpoint. Tensors are read by name, whole or by rows. */
export class Checkpoint implements WeightFiles {
  readonly #tensors: Map<string, StoredTensor>;
  readonly #files: FileHandle[];

  private constructor(tensors: Map<string, StoredTensor>, files: FileHandle[]) {
    this.#tensors = tensors;
    this.#files = files;
  }

  /**
   * Opens `model.safetensors`, or the shards of `model.safetensors.index.json`.
   * @throws HubError `unsupported_model` when a file is missing or not what it should be
   */
  static async open(folder: string): Promise<Checkpoint> {
    const tensors = new Map<string, StoredTensor>();
    const files: FileHandle[] = [];
    try {
      for (const name of await weightFiles(folder)) {
        const file = await open(join(folder, name), "r");
        files.push(file);
        for (const tensor of (await readHeader(file)).values()) {
          if (tensors.has(tensor.name)) refuse(`Tensor '${tensor.name}' is in two weight files.`);
          tensors.set(tensor.name, { ...tensor, file });
        }
      }
    } catch (error) {
      await Promise.all(files.map((file) => file.close()));
      throw error;
    }
    return new Checkpoint(tensors, files);
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  names(): string[] {
    return [...this.#tensors.keys()];
  }

  /** The type in which a tensor is stored: F32, F16 or BF16. */
  dtype(name: string): string {
    return this.#findFloats(name).dtype;
  }

  shape(name: string): readonly number[] {
    return this.#find(name).shape;
  }

  /**
   * Checks a tensor's shape before anything is read.
   * @throws HubError `unsupported_model` that names the tensor and both shapes
   */
  expectShape(name: string, shape: readonly number[]): void {
    const stored = this.#find(name).shape;
    if (stored.length !== shape.length || stored.some((size, axis) => size !== shape[axis])) {
      refuse(`Tensor '${name}' has shape [${stored}]; the config asks for [${shape}].`);
    }
  }

  /**
   * Checks how a tensor is stored as well, for those that are no weights by themselves.
   * @throws HubError `unsupported_model` that names the tensor
   */
  expectStored(
    name: string,
    { dtypes, shape }: { dtypes: readonly string[]; shape: readonly number[] },
  ): void {
    const { dtype } = this.#find(name);
    if (!dtypes.includes(dtype)) {
      refuse(`Tensor '${name}' has dtype ${dtype}; expected ${dtypes.join(" or ")}.`);
    }
    this.expectShape(name, shape);
  }

  /** Rows `[from, to)` of a tensor, or all of it, in float32. A tensor of one axis is one row. */
  async read(name: string, from = 0, to?: number): Promise<Float32Array> {
    const tensor = this.#findFloats(name);
    const bytes = await this.readStored(name, from, to);
    const rowBytes = (tensor.end - tensor.begin) / rowsOf(tensor);
    const shape = [bytes.length / rowBytes, ...tensor.shape.slice(1)];
    return readTensor(bytes, { ...tensor, shape, begin: 0, end: bytes.length });
  }

  /** The same rows as they lie in the file. */
  async readStored(name: string, from = 0, to?: number): Promise<Uint8Array> {
    const tensor = this.#find(name);
    const rowBytes = (tensor.end - tensor.begin) / rowsOf(tensor);
    const bytes = new Uint8Array(((to ?? rowsOf(tensor)) - from) * rowBytes);
    await readAll(tensor.file, bytes, tensor.begin + from * rowBytes);
    return bytes;
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }

  #find(name: string): StoredTensor {
    const tensor = this.#tensors.get(name);
    return tensor ?? refuse(`The checkpoint has no tensor '${name}'.`);
  }

  #findFloats(name: string): StoredTensor {
    const tensor = this.#find(name);
    if (!["F32", "F16", "BF16"].includes(tensor.dtype)) {
      refuse(`Tensor '${name}' has dtype ${tensor.dtype}; F32, F16 and BF16 are supported.`);
    }
    return tensor;
  }
}

/** A JSON file of the folder, or undefined when there is none. */
export async function readJson(folder: string, name: string): Promise<unknown> {
  const text = await readText(folder, name);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HubError("unsupported_model", `${name} is not valid JSON.`, { cause });
  }
}

/**
 * A text file of the folder, or undefined when there is none.
 * @throws HubError `unsupported_model` when it is larger than any model's
 */
export async function readText(folder: string, name: string): Promise<string | undefined> {
  const path = join(folder, name);
  if (!(await exists(folder, name))) return undefined;
  const { size } = await stat(path);
  if (size > textBytesMax) refuse(`${name} has ${size} bytes; at most ${textBytesMax} are read.`);
  return readFile(path, "utf8");
}

/** @throws HubError `unsupported_model` when a file that every import needs is missing */
export async function weightFiles(folder: string): Promise<string[]> {
  const index = await readJson(folder, indexName);
  const names = index === undefined ? ["model.safetensors"] : shardsOf(index);
  for (const name of [...names, "config.json", "tokenizer.json"]) {
    if (!(await exists(folder, name))) refuse(`The model folder has no file '${name}'.`);
  }
  return names;
}

function shardsOf(index: unknown): string[] {
  const parsed = weightIndex.safeParse(index);
  if (parsed.success) return [...new Set(Object.values(parsed.data.weight_map))].sort();
  return refuse(`${indexName}: ${z.prettifyError(parsed.error)}`);
}

async function readHeader(file: FileHandle): Promise<ReadonlyMap<string, TensorEntry>> {
  const limits = { errorCode: "unsupported_model" } as const;
  const { size } = await file.stat();
  const start = new Uint8Array(Math.min(8, size));
  await readAll(file, start, 0);
  const header = new Uint8Array(safetensorsHeaderBytes(start, size, limits));
  await readAll(file, header, 8);
  return parseSafetensorsHeader(header, size, limits).tensors;
}

async function readAll(file: FileHandle, into: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const wanted = Math.min(into.length - done, readBytesMax);
    const { bytesRead } = await file.read(into, done, wanted, position + done);
    if (bytesRead === 0) refuse("A weight file is shorter than its header says.");
    done += bytesRead;
  }
}

async function exists(folder: string, name: string): Promise<boolean> {
  return access(join(folder, name)).then(
    () => true,
    () => false,
  );
}

function rowsOf(tensor: TensorEntry): number {
  return tensor.shape.length > 1 ? (tensor.shape[0] ?? 1) : 1;
}

function refuse(message: string): never {
  throw new HubError("unsupported_model", message);
}

const indexName = "model.safetensors.index.json";
const weightIndex = z.object({
  weight_map: z.record(z.string(), z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/)),
});
/** One read call takes at most 2 GiB on Linux. */
const readBytesMax = 1 << 30;
/** Vocabulary and merges of 262,144 tokens take some 34 MB as JSON. */
const textBytesMax = 256 << 20;
