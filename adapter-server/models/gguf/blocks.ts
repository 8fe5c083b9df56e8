/**
 * How GGUF stores numbers: blocks of small integers with scales, and what they mean in float32.
 * @see ggml's `ggml-quants.c`, whose `dequantize_row_*` are the definition
 */

/** One way to store numbers. A row of a matrix is whole blocks. */
export type BlockType = {
  name: string;
  /** Numbers in one block. */
  numbers: number;
  /** Bytes of one block. */
  bytes: number;
  /** Decodes whole blocks of `from` into `to`. */
  decode(from: Uint8Array, to: Float32Array): void;
};

/** By ggml's number for the type, as a tensor's entry has it. */
export const blockTypes: ReadonlyMap<number, BlockType> = new Map<number, BlockType>([
  [0, { name: "F32", numbers: 1, bytes: 4, decode: decodeF32 }],
  [1, { name: "F16", numbers: 1, bytes: 2, decode: decodeF16 }],
  [2, inBlocks("Q4_0", 32, 18, decodeQ4_0)],
  [3, inBlocks("Q4_1", 32, 20, decodeQ4_1)],
  [8, inBlocks("Q8_0", 32, 34, decodeQ8_0)],
  [12, inBlocks("Q4_K", 256, 144, decodeQ4_K)],
  [13, inBlocks("Q5_K", 256, 176, decodeQ5_K)],
  [14, inBlocks("Q6_K", 256, 210, decodeQ6_K)],
  [30, { name: "BF16", numbers: 1, bytes: 2, decode: decodeBF16 }],
]);

/** Decodes the block at `from` of `view` to the place `to` of `out`. */
type DecodeBlock = (view: DataView, from: number, out: Float32Array, to: number) => void;

function inBlocks(name: string, numbers: number, bytes: number, decode: DecodeBlock): BlockType {
  return {
    name,
    numbers,
    bytes,
    decode(from, to) {
      const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
      for (let block = 0; block * numbers < to.length; block++) {
        decode(view, block * bytes, to, block * numbers);
      }
    },
  };
}

function decodeF32(from: Uint8Array, to: Float32Array): void {
  new Uint8Array(to.buffer, to.byteOffset, to.byteLength).set(from.subarray(0, to.byteLength));
}

function decodeF16(from: Uint8Array, to: Float32Array): void {
  const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
  for (let i = 0; i < to.length; i++) to[i] = half(view, 2 * i);
}

function decodeBF16(from: Uint8Array, to: Float32Array): void {
  const bits = new Uint32Array(to.buffer, to.byteOffset, to.length);
  for (let i = 0; i < to.length; i++)
    bits[i] = ((from[2 * i]! | (from[2 * i + 1]! << 8)) << 16) >>> 0;
}

/** `[scale, 16 bytes]`: low halves are the first sixteen numbers, high halves the others; 8 is zero. */
function decodeQ4_0(view: DataView, from: number, out: Float32Array, to: number): void {
  const scale = half(view, from);
  for (let i = 0; i < 16; i++) {
    const pair = view.getUint8(from + 2 + i);
    out[to + i] = scale * ((pair & 15) - 8);
    out[to + 16 + i] = scale * ((pair >> 4) - 8);
  }
}

/** `[scale, least, 16 bytes]` in the same order. */
function decodeQ4_1(view: DataView, from: number, out: Float32Array, to: number): void {
  const scale = half(view, from);
  const least = half(view, from + 2);
  for (let i = 0; i < 16; i++) {
    const pair = view.getUint8(from + 4 + i);
    out[to + i] = scale * (pair & 15) + least;
    out[to + 16 + i] = scale * (pair >> 4) + least;
  }
}

/** `[scale, 32 signed bytes]` */
function decodeQ8_0(view: DataView, from: number, out: Float32Array, to: number): void {
  const scale = half(view, from);
  for (let i = 0; i < 32; i++) out[to + i] = scale * view.getInt8(from + 2 + i);
}

/** `[scale, scale of minima, 12 bytes of scales and minima, 128 bytes]`: eight groups of 32 numbers. */
function decodeQ4_K(view: DataView, from: number, out: Float32Array, to: number): void {
  for (let group = 0; group < 8; group++) {
    const { scale, least } = groupOfK(view, from, group);
    const [pairs, shift] = [from + 16 + 32 * (group >> 1), 4 * (group & 1)];
    for (let i = 0; i < 32; i++) {
      const low = (view.getUint8(pairs + i) >> shift) & 15;
      out[to + 32 * group + i] = scale * low - least;
    }
  }
}

/** As Q4_K, with 32 bytes of fifth bits between the scales and the rest. */
function decodeQ5_K(view: DataView, from: number, out: Float32Array, to: number): void {
  for (let group = 0; group < 8; group++) {
    const { scale, least } = groupOfK(view, from, group);
    const [pairs, shift] = [from + 48 + 32 * (group >> 1), 4 * (group & 1)];
    for (let i = 0; i < 32; i++) {
      const low = (view.getUint8(pairs + i) >> shift) & 15;
      const high = (view.getUint8(from + 16 + i) >> group) & 1;
      out[to + 32 * group + i] = scale * (low + 16 * high) - least;
    }
  }
}

/** Six bits each for the scale and the minimum of a group, the last four groups' in two pieces. */
function groupOfK(view: DataView, from: number, group: number): { scale: number; least: number } {
  const at = (index: number) => view.getUint8(from + 4 + index);
  const low = group < 4;
  const scale = low ? at(group) & 63 : (at(group + 4) & 15) | ((at(group - 4) >> 6) << 4);
  const least = low ? at(group + 4) & 63 : (at(group + 4) >> 4) | ((at(group) >> 6) << 4);
  // The definition multiplies in float32.
  return {
    scale: Math.fround(half(view, from) * scale),
    least: Math.fround(half(view, from + 2) * least),
  };
}

/**
 * `[128 bytes of low halves, 64 of upper pairs of bits, 16 signed scales, scale]`: two halves of 128
 * numbers, each of four runs of 32 that share their bytes.
 */
function decodeQ6_K(view: DataView, from: number, out: Float32Array, to: number): void {
  const scale = half(view, from + 208);
  for (let run = 0; run < 8; run++) {
    const [side, part] = [run >> 2, run & 3];
    const lows = from + 64 * side + 32 * (part & 1);
    const highs = from + 128 + 32 * side;
    for (let i = 0; i < 32; i++) {
      const low = (view.getUint8(lows + i) >> (4 * (part >> 1))) & 15;
      const high = (view.getUint8(highs + i) >> (2 * part)) & 3;
      const own = view.getInt8(from + 192 + 2 * run + (i >> 4));
      out[to + 32 * run + i] = Math.fround(scale * own) * ((low | (high << 4)) - 32);
    }
  }
}

/** IEEE 754 binary16, little-endian. */
function half(view: DataView, at: number): number {
  const bits = view.getUint16(at, true);
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
