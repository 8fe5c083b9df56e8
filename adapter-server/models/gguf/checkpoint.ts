/** A GGUF file, or several of one model, as a checkpoint: tensors by the names and in the row order of Hugging Face's folders. */
import type { FileHandle } from "node:fs/promises";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { WeightFiles } from "../model-source.ts";
import type { GgufTensor, GgufValue } from "./header.ts";
import { toHuggingFaceName } from "./names.ts";
import { closeShards, type GgufShard, openShards, readAll } from "./shards.ts";

type StoredTensor = GgufTensor & { file: FileHandle };

/** An open model. Tensors are read by name, whole or by rows, in float32. */
export class GgufCheckpoint implements WeightFiles {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly #shards: readonly GgufShard[];
  readonly #tensors: ReadonlyMap<string, StoredTensor>;
  readonly #turnedHeads: (name: string) => number | undefined;

  private constructor(shards: readonly GgufShard[]) {
    this.#shards = shards;
    this.metadata = shards[0]?.header.metadata ?? new Map();
    const architecture = this.metadata.get("general.architecture");
    this.#tensors = new Map(
      shards.flatMap(({ header, file }) =>
        [...header.tensors].map(([name, tensor]): [string, StoredTensor] => [
          toHuggingFaceName(name, architecture),
          { ...tensor, file },
        ]),
      ),
    );
    this.#turnedHeads = turnedHeadsOf(this.metadata);
  }

  /**
   * @param path the file, or the first of several
   * @throws HubError `unsupported_model` when the file is not what it should be
   */
  static async open(path: string): Promise<GgufCheckpoint> {
    return new GgufCheckpoint(await openShards(path));
  }

  /** The model's files, in their order. */
  get paths(): string[] {
    return this.#shards.map(({ path }) => path);
  }

  names(): string[] {
    return [...this.#tensors.keys()].filter((name) => name !== ropeDivisorsName);
  }

  /** What the frequencies of rotary positions are divided by, `[headDim / 2]`; Llama 3 has it. */
  async ropeDivisors(): Promise<Float32Array | undefined> {
    return this.has(ropeDivisorsName) ? this.read(ropeDivisorsName) : undefined;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  shape(name: string): readonly number[] {
    return this.#find(name).shape;
  }

  /** What the file stores, in the terms of safetensors: quantized weights are read as F32. */
  dtype(name: string): "F32" | "F16" | "BF16" {
    const { type } = this.#find(name);
    return type.name === "F16" || type.name === "BF16" ? type.name : "F32";
  }

  /**
   * Checks a tensor's shape before anything is read.
   * @throws HubError `unsupported_model` that names the tensor and both shapes
   */
  expectShape(name: string, shape: readonly number[]): void {
    const stored = this.#find(name).shape;
    if (stored.length !== shape.length || stored.some((size, axis) => size !== shape[axis])) {
      refuse(`Tensor '${name}' has shape [${stored}]; the metadata asks for [${shape}].`);
    }
  }

  /** Rows `[from, to)` of a tensor, or all of it, in float32. A tensor of one axis is one row. */
  async read(name: string, from = 0, to?: number): Promise<Float32Array> {
    const tensor = this.#find(name);
    const end = to ?? rowsOf(tensor);
    const heads = this.#turnedHeads(name);
    if (heads === undefined) return this.#decode(tensor, from, end);
    return this.#readTurned(tensor, { from, to: end, heads });
  }

  /** The same rows in the type that `dtype` names, little-endian. */
  async readStored(name: string, from = 0, to?: number): Promise<Uint8Array> {
    const tensor = this.#find(name);
    if (this.dtype(name) !== "F32") return this.#bytes(tensor, from, to ?? rowsOf(tensor));
    return new Uint8Array((await this.read(name, from, to)).buffer);
  }

  async close(): Promise<void> {
    await closeShards(this.#shards);
  }

  /**
   * Rows of a matrix whose heads' rows llama.cpp keeps as interleaved pairs, `2·pair + half`; we and the
   * checkpoints that adapters are trained on have `half·(width / 2) + pair`.
   */
  async #readTurned(
    tensor: StoredTensor,
    { from, to, heads }: { from: number; to: number; heads: number },
  ): Promise<Float32Array> {
    const columns = tensor.shape[1] ?? 1;
    const width = rowsOf(tensor) / heads;
    const first = Math.floor(from / width) * width;
    const stored = await this.#decode(tensor, first, Math.ceil(to / width) * width);
    const result = new Float32Array((to - from) * columns);
    for (let row = from; row < to; row++) {
      const inHead = row % width;
      const [half, pair] = [Math.floor(inHead / (width / 2)), inHead % (width / 2)];
      const at = (row - inHead + 2 * pair + half - first) * columns;
      result.set(stored.subarray(at, at + columns), (row - from) * columns);
    }
    return result;
  }

  async #decode(tensor: StoredTensor, from: number, to: number): Promise<Float32Array> {
    const result = new Float32Array((to - from) * (tensor.shape.at(-1) ?? 1));
    tensor.type.decode(await this.#bytes(tensor, from, to), result);
    return result;
  }

  async #bytes(tensor: StoredTensor, from: number, to: number): Promise<Uint8Array> {
    const rowBytes = (tensor.end - tensor.begin) / rowsOf(tensor);
    const bytes = new Uint8Array((to - from) * rowBytes);
    await readAll(tensor.file, bytes, tensor.begin + from * rowBytes);
    return bytes;
  }

  #find(name: string): StoredTensor {
    return this.#tensors.get(name) ?? refuse(`The GGUF file has no tensor '${name}'.`);
  }
}

/** Heads of the matrices whose rows llama.cpp reorders: queries and keys of `llama` alone. */
function turnedHeadsOf(
  metadata: ReadonlyMap<string, GgufValue>,
): (name: string) => number | undefined {
  if (metadata.get("general.architecture") !== "llama") return () => undefined;
  const heads = metadata.get("llama.attention.head_count");
  const keyHeads = metadata.get("llama.attention.head_count_kv") ?? heads;
  return (name) => {
    const count = name.endsWith(".q_proj.weight") ? heads : keyHeads;
    return /\.[qk]_proj\.weight$/.test(name) && typeof count === "number" ? count : undefined;
  };
}

function rowsOf({ shape }: GgufTensor): number {
  return shape.slice(0, -1).reduce((rows, size) => rows * size, 1);
}

function refuse(message: string): never {
  throw new HubError("unsupported_model", message);
}

const ropeDivisorsName = "rope_freqs.weight";
