/**
 * Writes GGUF files: metadata first, then tensors, each streamed to its place.
 * @see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { type FileHandle, open } from "node:fs/promises";

/** A metadata value with the type that readers expect of its key. */
export type GgufEntry =
  | { type: "uint32" | "float32"; value: number }
  | { type: "string"; value: string }
  | { type: "float32s" | "int32s"; value: readonly number[] }
  | { type: "strings"; value: readonly string[] };

/** Tensors of these benchmarks; a block is 32 numbers in Q4_0 and one in the others. */
export type GgufTensorType = "F32" | "F16" | "Q4_0";

export type GgufTensor = {
  name: string;
  type: GgufTensorType;
  /** Row-major, the outermost axis first. */
  shape: readonly number[];
  /** Yields the tensor's bytes in order. */
  parts(): Iterable<Uint8Array>;
};

/** @throws Error when a tensor yields other than its shape's bytes */
export async function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufEntry>>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  const file = await open(path, "w");
  try {
    const header = encodeHeader(metadata, tensors);
    await writeAll(file, header);
    for (const tensor of tensors) {
      let written = 0;
      for (const part of tensor.parts()) {
        await writeAll(file, part);
        written += part.length;
      }
      const expected = bytesOf(tensor);
      if (written !== expected)
        throw new Error(`tensor ${tensor.name} has ${written} bytes, not ${expected}`);
      await writeAll(file, new Uint8Array(aligned(expected) - expected));
    }
  } finally {
    await file.close();
  }
}

function encodeHeader(
  metadata: Readonly<Record<string, GgufEntry>>,
  tensors: readonly GgufTensor[],
): Uint8Array {
  const entries = Object.entries(metadata);
  const out = new ByteSink();
  out.text("GGUF");
  out.uint32(3);
  out.uint64(tensors.length);
  out.uint64(entries.length);
  for (const [key, entry] of entries) writeEntry(out, key, entry);
  let offset = 0;
  for (const tensor of tensors) {
    out.string(tensor.name);
    out.uint32(tensor.shape.length);
    // The file has the innermost axis first.
    for (const size of tensor.shape.toReversed()) out.uint64(size);
    out.uint32(tensorTypes[tensor.type].number);
    out.uint64(offset);
    offset += aligned(bytesOf(tensor));
  }
  const bytes = out.bytes();
  const padded = new Uint8Array(aligned(bytes.length));
  padded.set(bytes);
  return padded;
}

function writeEntry(out: ByteSink, key: string, entry: GgufEntry): void {
  out.string(key);
  switch (entry.type) {
    case "uint32":
      out.uint32(valueTypes.uint32);
      out.uint32(entry.value);
      break;
    case "float32":
      out.uint32(valueTypes.float32);
      out.float32(entry.value);
      break;
    case "string":
      out.uint32(valueTypes.string);
      out.string(entry.value);
      break;
    case "float32s":
      out.array(valueTypes.float32, entry.value.length);
      for (const value of entry.value) out.float32(value);
      break;
    case "int32s":
      out.array(valueTypes.int32, entry.value.length);
      for (const value of entry.value) out.uint32(value >>> 0);
      break;
    case "strings":
      out.array(valueTypes.string, entry.value.length);
      for (const value of entry.value) out.string(value);
      break;
    default:
      entry satisfies never;
  }
}

/** Little-endian values one after another. */
class ByteSink {
  readonly #parts: Buffer[] = [];

  text(text: string): void {
    this.#parts.push(Buffer.from(text));
  }

  string(text: string): void {
    const bytes = Buffer.from(text);
    this.uint64(bytes.length);
    this.#parts.push(bytes);
  }

  array(elementType: number, length: number): void {
    this.uint32(valueTypes.array);
    this.uint32(elementType);
    this.uint64(length);
  }

  uint32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.#parts.push(bytes);
  }

  uint64(value: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.#parts.push(bytes);
  }

  float32(value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    this.#parts.push(bytes);
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done)).bytesWritten;
  }
}

function bytesOf({ type, shape }: Pick<GgufTensor, "type" | "shape">): number {
  const { numbers, bytes } = tensorTypes[type];
  return (shape.reduce((product, size) => product * size, 1) / numbers) * bytes;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}

/** What a file has that names no other alignment. */
const alignment = 32;
/** ggml's number for the type, numbers in a block, bytes of a block. */
const tensorTypes: Record<GgufTensorType, { number: number; numbers: number; bytes: number }> = {
  F32: { number: 0, numbers: 1, bytes: 4 },
  F16: { number: 1, numbers: 1, bytes: 2 },
  Q4_0: { number: 2, numbers: 32, bytes: 18 },
};
const valueTypes = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 };
