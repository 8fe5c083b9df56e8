/** The ways in which a matrix is stored and multiplied: float32, int8 rows, blocks of 4 or 8 bits. */
import { type Int8WeightType, int8WeightType } from "./int8-weights.ts";
import type { OnnxGraph } from "./onnx-graph.ts";

/** `y = x·Wᵀ` with W `[out, in]`, read some rows at a time. */
export type MatrixSource = {
  name: string;
  out: number;
  in: number;
  /** Where the same values are stored already in blocks along the input; absent for all but a tied embedding. */
  stored?: { name: string; bits: number; blockSize: number };
  /** Rows `[from, to)` of W, in float32. */
  read(from: number, to: number): Promise<Float32Array>;
};

/** An activation `[tokens, in]`, prepared once for all matrices that it is multiplied with. */
export type Activation = { value: string; scale?: string };

export type WeightFormat = {
  /** Whether activations are quantized row by row, with zero points from the input `rowZeroPoint`. */
  quantizesRows: boolean;
  /** Emits what has to happen to `x`, `[rows, width]`, before products. `zeroPoints` is `[rows, 1]`. */
  prepare(
    graph: OnnxGraph,
    x: string,
    { width, zeroPoints }: { width: number; zeroPoints: string },
  ): Promise<Activation>;
  /** Stores the matrix and emits the product `[tokens, out]`; returns its name. */
  multiply(graph: OnnxGraph, x: Activation, matrix: MatrixSource): Promise<string>;
};

/** Weights exactly as in the checkpoint; the reference for the other two. */
export const float32: WeightFormat = {
  quantizesRows: false,
  prepare: async (_graph, x) => ({ value: x }),
  async multiply(graph, x, matrix) {
    const shape = [matrix.out, matrix.in];
    await graph.weightParts(`${matrix.name}.weight`, "float32", shape, (append) =>
      eachPart(matrix, append),
    );
    return graph.op("Gemm", [x.value, `${matrix.name}.weight`], matrix.name, { transB: 1 });
  },
};

/**
 * Int8 rows: every row of activations has a scale of its own, so that no row changes another's numbers,
 * and every output has one scale. Activations are unsigned with zero point 128, because the kernel for
 * signed ones is ten times slower (ONNX Runtime 1.30, x64). This format makes rows of a batch cheap.
 * @param divisors `[in]`: activations are divided by them and weights multiplied, so that no single channel takes
 *   the whole scale of a row (SmoothQuant, arXiv:2211.10438); the product stays what it is
 * @param type how weights are stored, by default as this processor computes exactly
 */
export function int8Rows(divisors?: Float32Array, type = int8WeightType): WeightFormat {
  return {
    quantizesRows: true,
    async prepare(graph, x, { width, zeroPoints }) {
      const even = divisors ? await divide(graph, x, divisors) : x;
      const scale = scaleOfRows(graph, even, x);
      const rounded = { scale, width, zeroPoints };
      return { value: quantizeRows(graph, even, `${x}.int8`, rounded), scale };
    },
    async multiply(graph, x, matrix) {
      const source = divisors ? scaled(matrix, divisors) : matrix;
      return multiplyInt8(graph, x, { source, name: matrix.name, type });
    },
  };
}

/**
 * Int8 rows whose activations keep 16 bits: what rounding takes off a row is rounded once more, with a scale of
 * its own, and both are multiplied side by side as rows of one product. Then only the weights' rounding is left, for
 * twice the multiplications and the same bytes read; where products of int8 are cheap that is quicker than blocks.
 */
export const int8RowsOf16Bits: WeightFormat = {
  quantizesRows: true,
  async prepare(graph, x, { width, zeroPoints }) {
    const scale = scaleOfRows(graph, x, x);
    const coarse = quantizeRows(graph, x, `${x}.coarse`, { scale, width, zeroPoints });
    const attributes = { axis: 1, block_size: width };
    const inputs = [coarse, scale, zeroPoints];
    const back = graph.op("DequantizeLinear", inputs, `${x}.back`, attributes);
    const rest = graph.op("Sub", [x, back], `${x}.rest`);
    // The rest is half a step at most, and 127 of these.
    graph.floats("one254th", [1 / 254], []);
    const fineScale = graph.op("Mul", [scale, "one254th"], `${x}.fineScale`);
    const fine = quantizeRows(graph, rest, `${x}.fine`, { scale: fineScale, width, zeroPoints });
    return {
      value: graph.op("Concat", [coarse, fine], `${x}.int16`, { axis: 0 }),
      scale: graph.op("Concat", [scale, fineScale], `${x}.scales`, { axis: 0 }),
    };
  },
  async multiply(graph, x, matrix) {
    const { name, out } = matrix;
    const product = { source: matrix, name: `${name}.halves`, type: int8WeightType };
    const halves = await multiplyInt8(graph, x, product);
    graph.ints(`shape.halves${out}`, [2, -1, out]);
    graph.ints("axis.first", [0]);
    const both = graph.op("Reshape", [halves, `shape.halves${out}`], `${name}.both`);
    return graph.op("ReduceSum", [both, "axis.first"], name, { keepdims: 0 });
  },
};

/** `[rows, 1]`: the largest magnitude of each row is 127 of it. */
function scaleOfRows(graph: OnnxGraph, x: string, name: string): string {
  graph.ints("axis.last", [-1]);
  graph.floats("one127th", [1 / 127], []);
  const magnitudes = graph.op("Abs", [x], `${name}.abs`);
  const largest = graph.op("ReduceMax", [magnitudes, "axis.last"], `${name}.largest`);
  return graph.op("Mul", [largest, "one127th"], `${name}.scale`);
}

function quantizeRows(
  graph: OnnxGraph,
  x: string,
  output: string,
  { scale, width, zeroPoints }: { scale: string; width: number; zeroPoints: string },
): string {
  // A row is one block: so its scale keeps the shape [rows, 1], and this kernel is the quicker one.
  const attributes = { axis: 1, block_size: width };
  return graph.op("QuantizeLinear", [x, scale, zeroPoints], output, attributes);
}

/** The product with int8 weights, each row by its scale. */
async function multiplyInt8(
  graph: OnnxGraph,
  x: Activation,
  { source, name, type }: { source: MatrixSource; name: string; type: Int8WeightType },
): Promise<string> {
  const scale = new Float32Array(source.out);
  await graph.weight(`${source.name}.weight`, type, [source.in, source.out], async () => {
    const signed = await toInt8Columns(source, scale);
    return type === "int8" ? signed : Uint8Array.from(signed, (value) => value + 128);
  });
  await graph.weight(`${source.name}.scale`, "float32", [source.out], () => scale);
  graph.floats("one", [1], []);
  graph.bytes("zeroPoint", [128], []);
  const inputs = [x.value, `${source.name}.weight`, "one", `${source.name}.scale`, "zeroPoint"];
  if (type === "uint8") inputs.push("zeroPoint");
  const product = graph.contrib("MatMulIntegerToFloat", inputs, `${name}.int8`);
  return graph.op("Mul", [product, x.scale ?? ""], name);
}

/** Values that share a scale. */
export type BlockSize = 32 | 64 | 128;

/** Blocks of 4 or 8 bits along the input, one scale each. Least memory, quickest for a single row. */
export function blocks(bits: 4 | 8, blockSize: BlockSize): WeightFormat {
  return {
    quantizesRows: false,
    prepare: async (_graph, x) => ({ value: x }),
    async multiply(graph, x, matrix) {
      const { name, in: width, out } = matrix;
      const weights = await storeBlocks(graph, matrix, { bits, blockSize });
      const attributes = { K: width, N: out, bits, block_size: blockSize, accuracy_level: 4 };
      return graph.contrib("MatMulNBits", [x.value, ...weights], name, attributes);
    },
  };
}

/**
 * Named by how they are stored: graphs of two formats share what they store alike.
 * @returns the names of `[out, blocks, bytes of a block]` and of the scales `[out, blocks]`
 */
async function storeBlocks(
  graph: OnnxGraph,
  matrix: MatrixSource,
  { bits, blockSize }: { bits: 4 | 8; blockSize: BlockSize },
): Promise<[weight: string, scale: string]> {
  const { in: width, out, stored } = matrix;
  const name = `${matrix.name}.int${bits}x${blockSize}`;
  const blocksPerRow = Math.ceil(width / blockSize);
  const shape = [out, blocksPerRow, (blockSize * bits) / 8];
  if (stored?.bits === bits && stored.blockSize === blockSize) {
    return [graph.alias(`${name}.weight`, `${stored.name}.weight`, shape), `${stored.name}.scale`];
  }
  const scales = new Float32Array(out * blocksPerRow);
  const weight = await graph.weightParts(`${name}.weight`, "uint8", shape, (append) =>
    eachPart(matrix, async (rows, from) => {
      const count = rows.length / width;
      const part = scales.subarray(from * blocksPerRow, (from + count) * blocksPerRow);
      await append(toBlocks(rows, width, { bits, blockSize, scales: part }));
    }),
  );
  const scale = await graph.weight(`${name}.scale`, "float32", [out, blocksPerRow], () => scales);
  return [weight, scale];
}

async function divide(graph: OnnxGraph, x: string, divisors: Float32Array): Promise<string> {
  const read = () => divisors.map((divisor) => 1 / divisor);
  const factors = await graph.weight(`${x}.factors`, "float32", [divisors.length], read);
  return graph.op("Mul", [x, factors], `${x}.even`);
}

/** The matrix with each column multiplied by its factor. */
function scaled(matrix: MatrixSource, factors: Float32Array): MatrixSource {
  return {
    ...matrix,
    async read(from, to) {
      const rows = await matrix.read(from, to);
      for (let start = 0; start < rows.length; start += matrix.in) {
        for (let column = 0; column < matrix.in; column++) {
          rows[start + column]! *= factors[column]!;
        }
      }
      return rows;
    },
  };
}

/**
 * Symmetric int8 with one scale for each output, transposed to `[in, out]` as the kernel wants it.
 * @param scale filled with `[out]`
 */
async function toInt8Columns(matrix: MatrixSource, scale: Float32Array): Promise<Int8Array> {
  const weight = new Int8Array(matrix.in * matrix.out);
  await eachPart(matrix, async (rows, from) => {
    const count = rows.length / matrix.in;
    for (let row = 0; row < count; row++) {
      const values = rows.subarray(row * matrix.in, (row + 1) * matrix.in);
      scale[from + row] = largestMagnitude(values) / 127 || 1;
    }
    for (let column = 0; column < matrix.in; column++) {
      const target = column * matrix.out + from;
      for (let row = 0; row < count; row++) {
        weight[target + row] = Math.round(rows[row * matrix.in + column]! / scale[from + row]!);
      }
    }
  });
  return weight;
}

/**
 * Packs rows into blocks with zero point `2^(bits - 1)`, low nibble first.
 * @param rows   `[count, columns]`
 * @param scales filled with `[count, blocksPerRow]`
 */
export function toBlocks(
  rows: Float32Array,
  columns: number,
  { bits, blockSize, scales }: { bits: 4 | 8; blockSize: number; scales: Float32Array },
): Uint8Array {
  const zeroPoint = 1 << (bits - 1);
  const blocksPerRow = Math.ceil(columns / blockSize);
  const levels = new Uint8Array(scales.length * blockSize).fill(zeroPoint);
  for (let index = 0; index < scales.length; index++) {
    const row = Math.floor(index / blocksPerRow);
    const start = row * columns + (index % blocksPerRow) * blockSize;
    const end = Math.min(start + blockSize, (row + 1) * columns);
    const scale = bestScale(rows, start, end, bits === 4 ? extremeLevels4 : extremeLevels8);
    scales[index] = scale;
    for (let i = start; i < end; i++) {
      const level = Math.floor(rows[i]! / scale + 0.5);
      levels[index * blockSize + i - start] =
        zeroPoint + Math.max(-zeroPoint, Math.min(zeroPoint - 1, level));
    }
  }
  return bits === 8 ? levels : packNibbles(levels);
}

/**
 * The scale with the least squared error among those that put the value of largest magnitude at one of
 * some levels. Levels reach one further on the negative side, and a scale may be negative to use that.
 */
function bestScale(
  values: Float32Array,
  start: number,
  end: number,
  extremeLevels: readonly number[],
): number {
  let extreme = 0;
  for (let i = start; i < end; i++) {
    if (Math.abs(values[i]!) > Math.abs(extreme)) extreme = values[i]!;
  }
  if (extreme === 0) return 1;
  let best = extreme / extremeLevels[0]!;
  if (extremeLevels.length === 1) return best;
  let bestError = Number.POSITIVE_INFINITY;
  for (const extremeLevel of extremeLevels) {
    const scale = extreme / extremeLevel;
    const inverse = 1 / scale;
    let error = 0;
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      const level = Math.max(-8, Math.min(7, Math.floor(value * inverse + 0.5)));
      const difference = value - level * scale;
      error += difference * difference;
    }
    if (error < bestError) {
      best = scale;
      bestError = error;
    }
  }
  return best;
}

function packNibbles(levels: Uint8Array): Uint8Array {
  const packed = new Uint8Array(levels.length / 2);
  for (let i = 0; i < packed.length; i++) packed[i] = levels[2 * i]! | (levels[2 * i + 1]! << 4);
  return packed;
}

function largestMagnitude(values: Float32Array): number {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest;
}

export async function eachPart(
  matrix: MatrixSource,
  use: (rows: Float32Array, from: number) => Promise<void>,
): Promise<void> {
  const rowsPerPart = Math.max(1, Math.floor(partValues / matrix.in));
  for (let from = 0; from < matrix.out; from += rowsPerPart) {
    const to = Math.min(from + rowsPerPart, matrix.out);
    await use(await matrix.read(from, to), from);
  }
}

/** Levels that the largest value of a block may take; past the end means that it is cut off. */
const extremeLevels4 = [-8, -7.5, -7, -8.5, -9, 7];
const extremeLevels8 = [-128];
/** Weights converted at one time, so that a large model does not pass through one large buffer. */
const partValues = 1 << 18;
