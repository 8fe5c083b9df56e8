/**
 * Reads a GGUF file's header as if it were hostile: nothing is allocated for what a count merely claims,
 * and every tensor's bytes lie inside the file and apart from the others.
 * @see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { type BlockType, blockTypes } from "./blocks.ts";

export type GgufValue = number | boolean | string | readonly (number | boolean | string)[];

/** One tensor: row-major with the outermost axis first, its bytes at `[begin, end)` of the file. */
export type GgufTensor = {
  name: string;
  type: BlockType;
  shape: readonly number[];
  begin: number;
  end: number;
};

export type GgufHeader = {
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: ReadonlyMap<string, GgufTensor>;
};

/**
 * @param start      the file's first bytes, as many as have been read
 * @param fileBytes  how long the file is
 * @returns undefined when the header goes on behind `start`
 * @throws HubError `unsupported_model` that says which rule the file breaks
 */
export function parseGgufHeader(start: Uint8Array, fileBytes: number): GgufHeader | undefined {
  try {
    return parse(new Cursor(start, fileBytes), fileBytes);
  } catch (error) {
    if (!(error instanceof EndOfStart)) throw error;
    if (start.length >= fileBytes) refuse("is cut off within its header");
    return undefined;
  }
}

function parse(cursor: Cursor, fileBytes: number): GgufHeader {
  if (cursor.uint32() !== magic) refuse("does not begin with 'GGUF'");
  const version = cursor.uint32();
  if (version !== 2 && version !== 3) refuse(`is of version ${version}; 2 and 3 are supported`);
  const tensorCount = cursor.count("tensors", tensorBytesMin, tensorsMax);
  const valueCount = cursor.count("metadata entries", valueBytesMin, valuesMax);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < valueCount; i++) {
    const key = cursor.string();
    if (metadata.has(key)) refuse(`has the metadata key '${shown(key)}' twice`);
    metadata.set(key, readValue(cursor, key));
  }
  const entries = Array.from({ length: tensorCount }, () => readEntry(cursor));
  const alignment = alignmentOf(metadata);
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  return { metadata, tensors: place(entries, { dataStart, alignment, fileBytes }) };
}

type Entry = { name: string; type: BlockType; shape: number[]; bytes: number; offset: number };

function readEntry(cursor: Cursor): Entry {
  const name = cursor.string();
  const axes = cursor.uint32();
  if (axes < 1 || axes > 4) refuse(`says that tensor '${shown(name)}' has ${axes} dimensions`);
  // The file has the innermost axis first.
  const shape = Array.from({ length: axes }, () => cursor.uint64()).reverse();
  const number = cursor.uint32();
  const type = blockTypes.get(number);
  if (!type) {
    const known = [...blockTypes.values()].map((each) => each.name).join(", ");
    return refuse(`stores tensor '${shown(name)}' as type ${number}; known are ${known}`);
  }
  const numbers = shape.reduce((product, size) => product * size, 1);
  const width = shape.at(-1) ?? 0;
  if (!Number.isSafeInteger(4 * numbers) || numbers === 0 || width % type.numbers !== 0) {
    refuse(`says that tensor '${shown(name)}' of type ${type.name} has shape [${shape}]`);
  }
  return {
    name,
    type,
    shape,
    bytes: (numbers / type.numbers) * type.bytes,
    offset: cursor.uint64(),
  };
}

function place(
  entries: readonly Entry[],
  { dataStart, alignment, fileBytes }: { dataStart: number; alignment: number; fileBytes: number },
): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  let free = dataStart;
  for (const entry of [...entries].sort((one, other) => one.offset - other.offset)) {
    const { name, type, shape, bytes, offset } = entry;
    const begin = dataStart + offset;
    if (offset % alignment !== 0) refuse(`has tensor '${shown(name)}' at an unaligned place`);
    if (begin < free) refuse(`has tensor '${shown(name)}' inside another`);
    if (begin + bytes > fileBytes) refuse(`ends before its tensor '${shown(name)}' does`);
    if (tensors.has(name)) refuse(`has the tensor '${shown(name)}' twice`);
    free = begin + bytes;
    tensors.set(name, { name, type, shape, begin, end: free });
  }
  return tensors;
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment === "number" && alignmentsAllowed.has(alignment)) return alignment;
  return refuse(`has the alignment ${JSON.stringify(alignment).slice(0, 40)}`);
}

function readValue(cursor: Cursor, key: string): GgufValue {
  const type = cursor.uint32();
  if (type !== arrayType) return scalarOf(type, key).read(cursor);
  const element = cursor.uint32();
  if (element === arrayType) refuse(`has arrays in an array at '${shown(key)}'`);
  const scalar = scalarOf(element, key);
  const length = cursor.count(`elements of '${shown(key)}'`, scalar.bytes, elementsMax);
  return Array.from({ length }, () => scalar.read(cursor));
}

type Scalar = { bytes: number; read(cursor: Cursor): number | boolean | string };

function scalarOf(type: number, key: string): Scalar {
  return scalars[type] ?? refuse(`has a value of type ${type} at '${shown(key)}'`);
}

/** Reads values one after another; what would go beyond the file is refused before it is allocated. */
class Cursor {
  position = 0;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #fileBytes: number;

  constructor(bytes: Uint8Array, fileBytes: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fileBytes = fileBytes;
  }

  number(bytes: number, read: (view: DataView, at: number) => number): number {
    return read(this.#view, this.#take(bytes));
  }

  uint32(): number {
    return this.number(4, (view, at) => view.getUint32(at, true));
  }

  uint64(): number {
    const at = this.#take(8);
    return toNumber(this.#view.getBigUint64(at, true));
  }

  int64(): number {
    const at = this.#take(8);
    return toNumber(this.#view.getBigInt64(at, true));
  }

  /** A count of things that take at least so many bytes each. */
  count(of: string, bytesMin: number, max: number): number {
    const count = this.uint64();
    if (count > max || count * bytesMin > this.#fileBytes - this.position) {
      refuse(`claims ${count} ${of}, more than it can hold`);
    }
    return count;
  }

  string(): string {
    const length = this.count("bytes of one text", 1, stringBytesMax);
    const at = this.#take(length);
    // Tokens may be pieces of characters; those are unusable as text, and the vocabulary check finds them.
    return textDecoder.decode(this.#bytes.subarray(at, at + length));
  }

  #take(bytes: number): number {
    const at = this.position;
    if (at + bytes > this.#bytes.length) throw new EndOfStart();
    this.position += bytes;
    return at;
  }
}

/** The header is longer than what has been read of it. */
class EndOfStart extends Error {}

function toNumber(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER)) {
    refuse(`has the number ${value} in its header, which is out of all bounds`);
  }
  return Number(value);
}

function shown(name: string): string {
  return name.slice(0, 64).replace(/[^\x20-\x7e]/g, "?");
}

function refuse(rule: string): never {
  throw new HubError("unsupported_model", `The GGUF file ${rule}.`);
}

const magic = 0x46554747;
const arrayType = 9;
/** By the specification's number for a value's type. */
const scalars: Record<number, Scalar> = {
  0: { bytes: 1, read: (c) => c.number(1, (view, at) => view.getUint8(at)) },
  1: { bytes: 1, read: (c) => c.number(1, (view, at) => view.getInt8(at)) },
  2: { bytes: 2, read: (c) => c.number(2, (view, at) => view.getUint16(at, true)) },
  3: { bytes: 2, read: (c) => c.number(2, (view, at) => view.getInt16(at, true)) },
  4: { bytes: 4, read: (c) => c.uint32() },
  5: { bytes: 4, read: (c) => c.number(4, (view, at) => view.getInt32(at, true)) },
  6: { bytes: 4, read: (c) => c.number(4, (view, at) => view.getFloat32(at, true)) },
  7: { bytes: 1, read: (c) => c.number(1, (view, at) => view.getUint8(at)) !== 0 },
  8: { bytes: 8, read: (c) => c.string() },
  10: { bytes: 8, read: (c) => c.uint64() },
  11: { bytes: 8, read: (c) => c.int64() },
  12: { bytes: 8, read: (c) => c.number(8, (view, at) => view.getFloat64(at, true)) },
};
const textDecoder = new TextDecoder();
const alignmentsAllowed = new Set([8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]);

/** Bytes that the shortest entries take: empty names, one dimension. */
const tensorBytesMin = 8 + 4 + 8 + 4 + 8;
const valueBytesMin = 8 + 4 + 1;
const tensorsMax = 65_536;
const valuesMax = 65_536;
/** The largest vocabularies in use have 262,144 tokens, and twice as many merges. */
const elementsMax = 4_194_304;
const stringBytesMax = 1 << 20;
