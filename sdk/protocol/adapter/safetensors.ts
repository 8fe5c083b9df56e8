/** Reads safetensors files as if they were hostile: every byte is accounted for before any is used. */
import { z } from "zod";
import { type ErrorCode, HubError } from "../errors.ts";
import { parseStrictJson, StrictJsonError } from "./strict-json.ts";

/** Bytes of one element, by the format's dtype names. Sub-byte dtypes are not accepted. */
const dtypeBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
} as const;
type Dtype = keyof typeof dtypeBytes;

/** One tensor: row-major, its bytes at `[begin, end)` of the whole file. */
export type TensorEntry = {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  begin: number;
  end: number;
};

export type SafetensorsHeader = {
  /** In the order of their bytes. */
  tensors: ReadonlyMap<string, TensorEntry>;
  metadata: Readonly<Record<string, string>>;
};
export type SafetensorsFile = SafetensorsHeader & { bytes: Uint8Array };

export type SafetensorsLimits = {
  /** The reference implementation allows 100 MB; no real checkpoint comes near 16 MiB. */
  headerBytesMax?: number;
  tensorsMax?: number;
  /** The code of thrown errors; a base checkpoint is not an adapter. */
  errorCode?: ErrorCode;
};

/**
 * Parses a whole file. Nothing is copied: entries are ranges of `bytes`.
 * @throws HubError `invalid_adapter` (or `limits.errorCode`) that says which rule the file breaks
 * @see https://github.com/huggingface/safetensors#format
 */
export function parseSafetensors(
  bytes: Uint8Array,
  limits: SafetensorsLimits = {},
): SafetensorsFile {
  const { errorCode = "invalid_adapter" } = limits;
  refuseOtherFormats(bytes, errorCode);
  const headerBytes = safetensorsHeaderBytes(bytes, bytes.length, limits);
  const header = bytes.subarray(8, 8 + headerBytes);
  return { ...parseSafetensorsHeader(header, bytes.length, limits), bytes };
}

/**
 * The length of the JSON header, for readers that fetch it before the rest of a large file.
 * @param start at least the first eight bytes
 * @throws HubError as `parseSafetensors`
 */
export function safetensorsHeaderBytes(
  start: Uint8Array,
  fileBytes: number,
  { headerBytesMax = defaultHeaderBytesMax, errorCode = "invalid_adapter" }: SafetensorsLimits = {},
): number {
  if (fileBytes < 8 || start.length < 8) {
    throw new HubError(errorCode, "The safetensors file is shorter than its 8-byte length field.");
  }
  const length = new DataView(start.buffer, start.byteOffset, 8).getBigUint64(0, true);
  const lengthMax = Math.min(fileBytes - 8, headerBytesMax);
  if (length > BigInt(lengthMax)) {
    throw new HubError(
      errorCode,
      `The safetensors header claims ${length} bytes; at most ${lengthMax} are possible here.`,
    );
  }
  return Number(length);
}

/**
 * @param header    the JSON between the length field and the data
 * @param fileBytes size of the whole file, length field and header included
 * @throws HubError as `parseSafetensors`
 */
export function parseSafetensorsHeader(
  header: Uint8Array,
  fileBytes: number,
  limits: SafetensorsLimits = {},
): SafetensorsHeader {
  const { tensorsMax = defaultTensorsMax, errorCode = "invalid_adapter" } = limits;
  const fail = (problem: string): never => {
    throw new HubError(errorCode, `The safetensors file ${problem}.`);
  };
  if (header[0] !== OPEN_OBJECT) fail("has a header that does not start with '{'");
  const entries = Object.entries(parseHeaderJson(header, fail));
  if (entries.length > tensorsMax) fail(`has more than ${tensorsMax} tensors`);

  const dataStart = 8 + header.length;
  let metadata: Record<string, string> = {};
  const tensors: TensorEntry[] = [];
  for (const [name, value] of entries) {
    if (name === "__metadata__") {
      const parsed = metadataSchema.safeParse(value);
      if (!parsed.success) return fail("has __metadata__ that is not a table of strings");
      metadata = parsed.data;
    } else {
      tensors.push(toEntry(name, value, dataStart, fail));
    }
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCover(tensors, dataStart, fileBytes, fail);
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata };
}

/**
 * A tensor's values as new float32 memory, row-major. Only F32, F16 and BF16 are numbers we compute with.
 * @throws HubError `unsupported_adapter` for other dtypes
 */
export function readTensor(bytes: Uint8Array, tensor: TensorEntry): Float32Array {
  const values = new Float32Array(countOf(tensor));
  readTensorInto(values, bytes, tensor);
  return values;
}

/**
 * The same into memory that there is.
 * @param into as many values as the tensor has
 * @throws HubError `unsupported_adapter` for other dtypes
 */
export function readTensorInto(into: Float32Array, bytes: Uint8Array, tensor: TensorEntry): void {
  const raw = bytes.subarray(tensor.begin, tensor.end);
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
  switch (tensor.dtype) {
    case "F32":
      new Uint8Array(into.buffer, into.byteOffset, into.byteLength).set(raw);
      return;
    case "BF16":
      fromBf16(bits, halvesOf(raw));
      return;
    case "F16":
      fromF16(bits, halvesOf(raw));
      return;
    default:
      throw new HubError(
        "unsupported_adapter",
        `Tensor '${shortName(tensor.name)}' has dtype ${tensor.dtype}; expected F32, F16 or BF16.`,
      );
  }
}

/** How many values a tensor has. */
export function countOf({ dtype, begin, end }: TensorEntry): number {
  return (end - begin) / dtypeBytes[dtype];
}

/** A name from a file, short enough for a message. */
export function shortName(name: string): string {
  return name.length <= 160 ? name : `${name.slice(0, 160)}…`;
}

type Fail = (problem: string) => never;

/** A pickle or an archive under the wrong name gets a message that says so. */
function refuseOtherFormats(bytes: Uint8Array, errorCode: ErrorCode): void {
  const isPickle = bytes[0] === 0x80 && bytes[1] !== undefined && bytes[1] >= 1 && bytes[1] <= 5;
  const isZip = bytes[0] === 0x50 && bytes[1] === 0x4b && bytes[2] === 3 && bytes[3] === 4;
  const startsHeader = bytes[8] === OPEN_OBJECT;
  if ((isPickle || isZip) && !startsHeader) {
    throw new HubError(
      errorCode,
      "The weights are a pickle or an archive. Only safetensors is accepted, because loading a pickle runs its code.",
    );
  }
}

function parseHeaderJson(header: Uint8Array, fail: Fail): Record<string, unknown> {
  try {
    // `{ tensor: { shape: [ … ] } }` has depth 3. The value is an object, since it starts with '{'.
    return parseStrictJson(header, 3) as Record<string, unknown>;
  } catch (error) {
    if (error instanceof StrictJsonError) return fail(`has a header that ${error.message}`);
    throw error;
  }
}

function toEntry(name: string, value: unknown, dataStart: number, fail: Fail): TensorEntry {
  const parsed = entrySchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = issue?.path.join(".") ?? "";
    return fail(
      `describes tensor '${shortName(name)}' wrongly: ${where} ${issue?.message ?? ""}`.trimEnd(),
    );
  }
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  const [begin, end] = offsets;
  if (end < begin) fail(`has reversed offsets for tensor '${shortName(name)}'`);
  // A product of safe integers overflows a double's exact range, and in other readers 64 bits.
  const sizeBytes = shape.reduce((size, n) => size * BigInt(n), BigInt(dtypeBytes[dtype]));
  if (sizeBytes !== BigInt(end - begin)) {
    fail(`gives tensor '${shortName(name)}' ${end - begin} bytes, its shape needs ${sizeBytes}`);
  }
  return { name, dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/** Together the tensors are the data: no byte twice, none left out, before, between or after. */
function checkCover(
  sorted: readonly TensorEntry[],
  dataStart: number,
  fileBytes: number,
  fail: Fail,
): void {
  let position = dataStart;
  for (const { name, begin, end } of sorted) {
    if (begin < position) fail(`has overlapping bytes at tensor '${shortName(name)}'`);
    if (begin > position) fail(`has unused bytes before tensor '${shortName(name)}'`);
    position = end;
  }
  if (position > fileBytes) fail(`ends ${position - fileBytes} bytes before its last tensor does`);
  if (position < fileBytes) fail(`has ${fileBytes - position} bytes after its last tensor`);
}

/** A file may begin its numbers at any byte, and memory is read at even ones. */
function halvesOf(raw: Uint8Array): Uint16Array {
  const { buffer, byteOffset, length } = raw.byteOffset % 2 === 0 ? raw : new Uint8Array(raw);
  return new Uint16Array(buffer, byteOffset, length / 2);
}

/** bfloat16 is the upper half of a float32. */
function fromBf16(bits: Uint32Array, halves: Uint16Array): void {
  for (let i = 0; i < halves.length; i++) bits[i] = (halves[i] ?? 0) << 16;
}

/**
 * IEEE half precision. No step holds a subnormal float32: once ONNX Runtime has run in a process, its threads may take those
 * for zero, and small weights of an adapter would be lost.
 */
function fromF16(bits: Uint32Array, halves: Uint16Array): void {
  const values = new Float32Array(bits.buffer, bits.byteOffset, bits.length);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i] ?? 0;
    const sign = (half & 0x8000) << 16;
    const exponent = half & 0x7c00;
    if (exponent === 0) {
      values[i] = (half & 0x03ff) * (sign === 0 ? 2 ** -24 : -(2 ** -24));
    } else if (exponent === 0x7c00) {
      bits[i] = sign | 0x7f800000 | ((half & 0x03ff) << 13);
    } else {
      bits[i] = sign | (((half & 0x7fff) << 13) + (112 << 23));
    }
  }
}

const OPEN_OBJECT = 0x7b;
const defaultHeaderBytesMax = 16 * 2 ** 20;
const defaultTensorsMax = 20_000;
const offset = z.int().nonnegative();
const entrySchema = z.strictObject({
  dtype: z.enum(Object.keys(dtypeBytes) as [Dtype, ...Dtype[]]),
  shape: z.array(offset).max(8),
  data_offsets: z.tuple([offset, offset]),
});
const metadataSchema = z.record(z.string(), z.string());
