/**
 * The memory of cached keys and values, in blocks of a few tokens.
 *
 * It is one array, `[blocks + 1, layers, key | value, keyValueHeads, blockSize, headDim]`: the graph
 * gathers from it by row, and an input less for each layer saves its share of every call. The last
 * block stays zero and stands in where a sequence has fewer blocks than the longest of its call.
 */
import type { ModelDims } from "./types.ts";

export class KeyValuePool {
  readonly data: Float32Array;
  readonly #dims: ModelDims;
  readonly #blockSize: number;
  /** Values from one layer, kind and head of a block to the next. */
  readonly #planeSize: number;
  readonly #planes: number;
  /** The block that is always zero. */
  readonly zeroBlock: number;

  constructor({ dims, blocks, blockSize }: { dims: ModelDims; blocks: number; blockSize: number }) {
    this.#dims = dims;
    this.#blockSize = blockSize;
    this.#planeSize = blockSize * dims.headDim;
    this.#planes = 2 * dims.layers * dims.keyValueHeads;
    this.zeroBlock = blocks;
    this.data = new Float32Array((blocks + 1) * this.#planes * this.#planeSize);
  }

  /** `[rows, blockSize * headDim]`, as the graph gathers from it. */
  get shape(): [rows: number, width: number] {
    return [this.data.length / this.#planeSize, this.#planeSize];
  }

  /** The graph's row of a block's first key head in the first layer; further heads follow it. */
  firstRowOf(block: number): number {
    return block * this.#planes;
  }

  /**
   * Stores the new keys and values of one row of a call.
   * @param source `[2 * layers, keyValueHeads, rows, tokensMax, headDim]`, as the graph returns them
   * @param at     where in `source` the row is, and where its tokens belong
   */
  write(
    source: Float32Array,
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
    const { headDim } = this.#dims;
    const blockSize = this.#blockSize;
    for (let token = 0; token < tokens; ) {
      const offset = (position + token) % blockSize;
      const count = Math.min(blockSize - offset, tokens - token);
      const block = blocks[Math.floor((position + token) / blockSize)]!;
      const end = (offset + count) * headDim;
      for (let plane = 0; plane < this.#planes; plane++) {
        const start = (block * this.#planes + plane) * this.#planeSize;
        const from = ((plane * rows + row) * tokensMax + token) * headDim;
        copyFloats(source, from, {
          into: this.data,
          at: start + offset * headDim,
          count: count * headDim,
        });
        // A masked position weighs zero, but zero times what is not a number is not a number: a block
        // that is begun anew must not keep what another sequence left in it.
        if (offset === 0) this.data.fill(0, start + end, start + this.#planeSize);
      }
      token += count;
    }
  }
}

/** A loop, because views and `set` cost more than the few values of one head. */
function copyFloats(
  source: Float32Array,
  from: number,
  { into, at, count }: { into: Float32Array; at: number; count: number },
): void {
  for (let i = 0; i < count; i++) into[at + i] = source[from + i]!;
}
