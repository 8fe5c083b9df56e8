/** What the ways of storing quantized matrices have in common: small whole numbers, scales, zero points. */
import { HubError } from "../../../sdk/protocol/errors.ts";

/** A matrix in memory: `w = scale · (level − zero)`, with one scale and zero point for a row and a group of columns. */
export type PackedMatrix = {
  out: number;
  in: number;
  /** Levels of rows `[from, to)`, `[to - from, in]`. */
  levels(from: number, to: number): Uint8Array;
  /** `[out, groups]`, as are `zeros`. */
  scales: Float32Array;
  zeros: Uint8Array;
  /** The group of each column, `[in]`. */
  groupOf: Uint32Array;
};

/** One tensor of those that together store a matrix. */
export type PackedPart = {
  /** What its name has in place of the plain tensor's `.weight`. */
  ending: string;
  dtypes: readonly string[];
  shape: readonly number[];
  optional?: boolean;
};

/** The tensors of one matrix, by their endings. */
export type PartReader = {
  /** `[]` when there is no such tensor. */
  shape(ending: string): readonly number[];
  has(ending: string): boolean;
  words(ending: string): Promise<Uint32Array>;
  numbers(ending: string): Promise<Float32Array>;
  /** @throws HubError `unsupported_model` that names the matrix */
  refuse(problem: string): never;
};

/** How one method stores a matrix. */
export type PackedLayout = {
  /** What people call it. */
  format: string;
  /** The ending that only a quantized matrix has. */
  marker: string;
  /** The whole matrix's shape, as the parts' shapes imply it. */
  sizeOf(parts: Pick<PartReader, "shape">): MatrixSize;
  /** All parts that a matrix of this size has. */
  partsOf(size: MatrixSize): PackedPart[];
  load(parts: PartReader, size: MatrixSize): Promise<PackedMatrix>;
};

export type MatrixSize = { out: number; in: number };

/** Rows `[from, to)` in float32, `[to - from, in]`; exact, since no product needs more than 24 bits. */
export function dequantizeRows(matrix: PackedMatrix, from: number, to: number): Float32Array {
  const { scales, zeros, groupOf } = matrix;
  const columns = matrix.in;
  const groups = scales.length / matrix.out;
  const levels = matrix.levels(from, to);
  const result = new Float32Array(levels.length);
  for (let row = from; row < to; row++) {
    const start = (row - from) * columns;
    const table = row * groups;
    for (let column = 0; column < columns; column++) {
      const entry = table + groupOf[column]!;
      result[start + column] = scales[entry]! * (levels[start + column]! - zeros[entry]!);
    }
  }
  return result;
}

/** Columns of equal groups, one after another; the last one may be shorter. */
export function evenGroups(columns: number, groupSize: number): Uint32Array {
  return Uint32Array.from({ length: columns }, (_, column) => Math.floor(column / groupSize));
}

/** @param groupSize Infinity is one group for all columns */
export function groupCount(columns: number, groupSize: number): number {
  return Math.ceil(columns / Math.min(groupSize, columns));
}

/** `[rows, columns]` to `[columns, rows]`. */
export function transposed<T extends Float32Array | Uint8Array>(values: T, columns: number): T {
  const result = values.slice() as T;
  const rows = values.length / columns;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[column * rows + row] = values[row * columns + column]!;
    }
  }
  return result;
}

/** Numbers of equal width out of words, the lowest bits first. */
export function unpackWords(words: Uint32Array, bits: 4 | 8): Uint8Array {
  const perWord = 32 / bits;
  const mask = 2 ** bits - 1;
  const result = new Uint8Array(words.length * perWord);
  for (let i = 0; i < result.length; i++) {
    result[i] = (words[Math.floor(i / perWord)]! >>> ((i % perWord) * bits)) & mask;
  }
  return result;
}

/** @throws HubError `unsupported_model` */
export function refuse(message: string): never {
  throw new HubError("unsupported_model", message);
}

/** Types in which methods store scales. */
export const scaleTypes = ["F16", "BF16", "F32"] as const;
