/** What kernels compute with after rounding, as plain numbers: for measuring what the rounding costs. */
import { type BlockSize, toBlocks } from "../weight-format.ts";

/** Symmetric int8 with one scale for each row. */
export function roundRows(values: Float32Array, width: number): Float32Array {
  return roundGroups(values, width, { group: width });
}

/** Rows in int8, and what that takes off them in int8 again: steps of a 254th. */
export function roundRowsTwice(values: Float32Array, width: number): Float32Array {
  return roundGroups(values, width, { group: width, levels: 127 * 254 });
}

/** Symmetric, with one scale for each block of a row, in int8 if not said otherwise: what block kernels do to activations. */
export function roundGroups(
  values: Float32Array,
  width: number,
  { group, levels = 127 }: { group: number; levels?: number },
): Float32Array {
  const rounded = new Float32Array(values.length);
  for (let row = 0; row < values.length; row += width) {
    for (let start = row; start < row + width; start += group) {
      const end = Math.min(start + group, row + width);
      let largest = 0;
      for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
      const scale = largest / levels || 1;
      for (let i = start; i < end; i++) rounded[i] = Math.round(values[i]! / scale) * scale;
    }
  }
  return rounded;
}

/** Weights as their blocks stand for them. */
export function roundBlocks(
  rows: Float32Array,
  width: number,
  { bits, blockSize }: { bits: 4 | 8; blockSize: BlockSize },
): Float32Array {
  const blocksPerRow = Math.ceil(width / blockSize);
  const scales = new Float32Array((rows.length / width) * blocksPerRow);
  const packed = toBlocks(rows, width, { bits, blockSize, scales });
  const zeroPoint = 1 << (bits - 1);
  const rounded = new Float32Array(rows.length);
  for (let i = 0; i < rows.length; i++) {
    const block = Math.floor(i / width) * blocksPerRow + Math.floor((i % width) / blockSize);
    const at = block * blockSize + ((i % width) % blockSize);
    const byte = bits === 8 ? packed[at]! : packed[at >> 1]!;
    const level = bits === 8 ? byte : at % 2 === 0 ? byte & 15 : byte >> 4;
    rounded[i] = (level - zeroPoint) * scales[block]!;
  }
  return rounded;
}

/** Every column multiplied by its factor. */
export function scaleColumns(values: Float32Array, factors: Float32Array): Float32Array {
  const scaled = new Float32Array(values.length);
  for (let row = 0; row < values.length; row += factors.length) {
    for (let i = 0; i < factors.length; i++) scaled[row + i] = values[row + i]! * factors[i]!;
  }
  return scaled;
}
