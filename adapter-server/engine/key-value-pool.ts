/**
 * The memory of cached keys and values, in blocks of a few tokens.
 *
 * It is one array, `[blocks + 1, layers, key | value, keyValueHeads, blockSize, headDim]`: the graph
 * gathers from it by row, and an input less for each layer saves its share of every call. The last
 * block stays zero and stands in where a sequence has fewer blocks than the longest of its call. A pool of
 * int8 has a second array, with one scale for the `headDim` values of a position.
 */
import type { KeyValueType } from "../models/graph-files.ts";
import type { ModelDims } from "./types.ts";

/** One array of the pool: what the graph takes it by, and what the graph returns for it. */
export type PoolPart = {
  input: string;
  output: string;
  type: "float32" | "int8";
  data: Float32Array | Int8Array;
  /** Values of one position. */
  width: number;
  /** As the graph gathers from it, `[rows, blockSize * width]`. */
  shape: [rows: number, width: number];
};

/** What a call returned for the parts, by output. */
export type NewKeyValues = Record<string, Float32Array | Int8Array>;

export type PoolOptions = {
  dims: ModelDims;
  blocks: number;
  blockSize: number;
  type: KeyValueType;
};

/** The memory of the parts, in their order. */
export type PoolData = (Float32Array | Int8Array)[];

export class KeyValuePool {
  readonly parts: readonly PoolPart[];
  readonly #blockSize: number;
  /** Planes of a block: its layers, kinds and heads. */
  readonly #planes: number;
  /** The block that is always zero. */
  readonly zeroBlock: number;

  /** @param given the memory that another pool of the same sizes had; absent takes memory, all zero */
  constructor({ dims, blocks, blockSize, type }: PoolOptions, given: PoolData = []) {
    this.#blockSize = blockSize;
    this.#planes = 2 * dims.layers * dims.keyValueHeads;
    this.zeroBlock = blocks;
    const rows = (blocks + 1) * this.#planes;
    const values = { input: "keyValuePool", output: "newKeyValues", width: dims.headDim, place: 0 };
    const scales = { input: "keyValueScales", output: "newKeyValueScales", width: 1, place: 1 };
    const floats = ({ place, ...part }: typeof values): PoolPart => ({
      ...part,
      type: "float32",
      data: given[place] ?? new Float32Array(rows * blockSize * part.width),
      shape: [rows, blockSize * part.width],
    });
    const bytes = ({ place, ...part }: typeof values): PoolPart => ({
      ...part,
      type: "int8",
      data: given[place] ?? new Int8Array(rows * blockSize * part.width),
      shape: [rows, blockSize * part.width],
    });
    this.parts = type === "int8" ? [bytes(values), floats(scales)] : [floats(values)];
  }

  /** The memory, for whoever goes on with it. */
  get data(): PoolData {
    return this.parts.map(({ data }) => data);
  }

  /** The graph's row of a block's first key head in the first layer; further heads follow it. */
  firstRowOf(block: number): number {
    return block * this.#planes;
  }

  /** Copies all layers' keys and values of a block over another's. */
  copy(from: number, to: number): void {
    for (const { data, width } of this.parts) {
      const size = this.#planes * this.#blockSize * width;
      data.copyWithin(to * size, from * size, (from + 1) * size);
    }
  }

  /**
   * Stores the new keys and values of one row of a call.
   * @param source for each part `[2 * layers, keyValueHeads, rows, tokensMax, width]`, as the graph returns them
   * @param at     where in `source` the row is, and where its tokens belong
   */
  write(
    source: NewKeyValues,
    at: {
      row: number;
      rows: number;
      tokensMax: number;
      tokens: number;
      position: number;
      blocks: readonly number[];
    },
  ): void {
    const { row, rows, tokensMax, tokens, position, blocks } = at;
    const blockSize = this.#blockSize;
    for (const { output, data, width } of this.parts) {
      const values = source[output]!;
      for (let token = 0; token < tokens; ) {
        const offset = (position + token) % blockSize;
        const count = Math.min(blockSize - offset, tokens - token);
        const block = blocks[Math.floor((position + token) / blockSize)]!;
        for (let plane = 0; plane < this.#planes; plane++) {
          const start = (block * this.#planes + plane) * blockSize * width;
          const from = ((plane * rows + row) * tokensMax + token) * width;
          const to = start + offset * width;
          // A loop, because views and `set` cost more than the few values of one head.
          for (let i = 0; i < count * width; i++) data[to + i] = values[from + i]!;
          // A masked position weighs zero, but zero times what is not a number is not a number: a block
          // that is begun anew must not keep what another sequence left in it.
          if (offset === 0) data.fill(0, start + count * width, start + blockSize * width);
        }
        token += count;
      }
    }
  }
}
