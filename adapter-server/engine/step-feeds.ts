/**
 * Computes the index inputs of one call of the decoder graph; see `models/decoder-graph.ts` for what the
 * graph does with them. All arrays are views of buffers that grow as needed and are used again.
 */
import { attentionInputs } from "../models/model-spec.ts";
import type { AdapterSlots, SlotRun } from "./adapter-slots.ts";
import type { KeyValuePool } from "./key-value-pool.ts";
import type { ModelDims, StepRow } from "./types.ts";

/** A graph input: its values and its shape. */
export type Feed = {
  type: "float32" | "int32" | "int64" | "uint8" | "int8";
  data: Float32Array | Int32Array | BigInt64Array | Uint8Array | Int8Array;
  shape: readonly number[];
};
export type Feeds = Record<string, Feed>;

/** The sizes of a call that its feeds and its results share. */
export type CallSizes = {
  /** Tokens of all rows, and one to spare where groups are uneven. */
  tokens: number;
  /** Tokens of the longest row. */
  tokensMax: number;
};

/** A score that no other score makes up for, and that stays finite when one is added to it. */
const masked = -3e38;

export class StepFeeds {
  readonly #dims: ModelDims;
  readonly #blockSize: number;
  readonly #pool: KeyValuePool;
  readonly #buffers = new Map<string, ArrayBuffer>();

  constructor({
    dims,
    blockSize,
    pool,
  }: { dims: ModelDims; blockSize: number; pool: KeyValuePool }) {
    this.#dims = dims;
    this.#blockSize = blockSize;
    this.#pool = pool;
  }

  /** @param run places that cover the slots of all rows, as `slots` arranged them */
  build(
    rows: readonly StepRow[],
    { slots, run }: { slots: AdapterSlots; run: SlotRun },
  ): { feeds: Feeds; sizes: CallSizes } {
    const groups = groupTokens(rows, slots, run);
    const real = rows.reduce((sum, row) => sum + row.tokens.length, 0);
    const sizes: CallSizes = {
      tokens: groups.uneven ? real + 1 : real,
      tokensMax: Math.max(...rows.map((row) => row.tokens.length)),
    };
    const feeds: Feeds = {};
    this.#tokenFeeds(feeds, rows, sizes);
    this.#headFeeds(feeds, rows, sizes);
    this.#dims.windows.forEach((window, attention) => {
      const names = attentionInputs(attention);
      this.#chunkFeeds(feeds, rows, { sizes, window, names });
      this.#cacheFeeds(feeds, rows, { sizes, window, names });
    });
    for (const { input, type, data, shape } of this.#pool.parts)
      feeds[input] = { type, data, shape };
    this.#adapterFeeds(feeds, groups, sizes);
    return { feeds, sizes };
  }

  #tokenFeeds(feeds: Feeds, rows: readonly StepRow[], { tokens: count }: CallSizes): void {
    const { heads, keyValueHeads } = this.#dims;
    const headRows = heads + 2 * keyValueHeads;
    const tokens = this.#int32("tokens", count);
    // The first turn is none. The kernel wants as many turns as there are heads, and vector instructions whole
    // vectors, so that no token's numbers depend on how many there are.
    const turns = Math.ceil(Math.max(count + 1, headRows) / 16) * 16;
    const positions = this.#float32("positions", turns).fill(0);
    const headTurns = this.#int64("headTurns", count * headRows);
    // At least one, though nobody reads it: kernels that quantize rows refuse to have none.
    const sampledCount = Math.max(1, countSamples(rows));
    const sampled = this.#int32("sampledRows", sampledCount).fill(0);
    const stated = this.#int32("stateRows", countStates(rows));
    let token = 0;
    let samples = 0;
    let states = 0;
    for (const row of rows) {
      for (let i = 0; i < row.tokens.length; i++, token++) {
        tokens[token] = row.tokens[i]!;
        positions[token + 1] = row.position + i;
        // Value heads do not turn.
        for (let head = 0; head < heads + keyValueHeads; head++) {
          headTurns.low[2 * (token * headRows + head)] = token + 1;
        }
      }
      for (let i = row.samples; i > 0; i--) sampled[samples++] = token - i;
      for (let i = row.states ?? 0; i > 0; i--) stated[states++] = token - i;
    }
    const zeroPoints = this.#view("rowZeroPoint", count, Uint8Array).fill(128);
    feeds.tokens = { type: "int32", data: tokens, shape: [count] };
    feeds.positions = { type: "float32", data: positions, shape: [turns, 1] };
    feeds.headTurns = { type: "int64", data: headTurns.data, shape: [count, headRows] };
    feeds.sampledRows = { type: "int32", data: sampled, shape: [sampledCount] };
    feeds.stateRows = { type: "int32", data: stated, shape: [stated.length] };
    feeds.rowZeroPoint = { type: "uint8", data: zeroPoints, shape: [count, 1] };
  }

  /** Where each token's heads go for attention, and where their sums come back from. */
  #headFeeds(feeds: Feeds, rows: readonly StepRow[], sizes: CallSizes): void {
    const { heads, keyValueHeads } = this.#dims;
    const { tokensMax } = sizes;
    const shared = heads / keyValueHeads;
    const headRows = heads + 2 * keyValueHeads;
    const count = rows.length;
    const query = this.#int32("queryRows", heads * count * tokensMax);
    const key = this.#int32("keyRows", keyValueHeads * count * tokensMax);
    const value = this.#int32("valueRows", keyValueHeads * count * tokensMax);
    const attended = this.#int32("attendedRows", sizes.tokens * heads).fill(0);

    let start = 0;
    for (let row = 0; row < count; row++) {
      const length = rows[row]!.tokens.length;
      for (let i = 0; i < tokensMax; i++) {
        // Shorter rows repeat their last token; nobody reads what becomes of it.
        const token = start + Math.min(i, length - 1);
        for (let kv = 0; kv < keyValueHeads; kv++) {
          const at = (kv * count + row) * tokensMax + i;
          key[at] = token * headRows + heads + kv;
          value[at] = token * headRows + heads + keyValueHeads + kv;
          for (let g = 0; g < shared; g++) {
            const head = kv * shared + g;
            const queryAt = ((kv * count + row) * shared + g) * tokensMax + i;
            query[queryAt] = token * headRows + head;
            if (i < length) attended[token * heads + head] = queryAt;
          }
        }
      }
      start += length;
    }
    const perHead = [1, keyValueHeads, count, tokensMax];
    feeds.queryRows = {
      type: "int32",
      data: query,
      shape: [1, keyValueHeads, count, shared * tokensMax],
    };
    feeds.keyRows = { type: "int32", data: key, shape: perHead };
    feeds.valueRows = { type: "int32", data: value, shape: perHead };
    feeds.attendedRows = { type: "int32", data: attended, shape: [sizes.tokens, heads] };
  }

  /** Which tokens of its own chunk each token sees: itself and those before it, as far as the window goes. */
  #chunkFeeds(feeds: Feeds, rows: readonly StepRow[], { sizes, window, names }: Sight): void {
    const { tokensMax } = sizes;
    const queries = this.#queriesPerKey(tokensMax);
    const mask = this.#float32(names.chunkMask, rows.length * queries * tokensMax);
    for (let query = 0; query < rows.length * queries; query++) {
      const i = query % tokensMax;
      const from = query * tokensMax;
      const seen = Math.max(0, i + 1 - window);
      mask.fill(masked, from, from + seen).fill(0, from + seen, from + i + 1);
      mask.fill(masked, from + i + 1, from + tokensMax);
    }
    const shape = [1, 1, rows.length, queries, tokensMax];
    feeds[names.chunkMask] = { type: "float32", data: mask, shape };
  }

  /** Which cached blocks each row's tokens see, the first token's window first, and which of their positions. */
  #cacheFeeds(feeds: Feeds, rows: readonly StepRow[], { sizes, window, names }: Sight): void {
    const { keyValueHeads } = this.#dims;
    const { tokensMax } = sizes;
    const count = rows.length;
    const size = this.#blockSize;
    const firstOf = (row: StepRow) => Math.floor(Math.max(0, row.position + 1 - window) / size);
    const endOf = (row: StepRow) => Math.ceil(row.position / size);
    // At least one, because a product over no positions at all is a corner that few kernels mind.
    const blocks = Math.max(1, ...rows.map((row) => endOf(row) - firstOf(row)));
    const length = blocks * size;
    // The tokens of a chunk see the same of the cache, unless a window moves along with them.
    const moves = rows.some(({ position, tokens }) => position + tokens.length > window);
    const queries = moves && tokensMax > 1 ? this.#queriesPerKey(tokensMax) : 1;
    const blockRows = this.#int32(names.blockRows, keyValueHeads * count * blocks);
    const mask = this.#float32(names.pastMask, count * queries * length);
    for (let row = 0; row < count; row++) {
      const { position, blocks: owned } = rows[row]!;
      const first = firstOf(rows[row]!);
      const end = endOf(rows[row]!);
      for (let i = 0; i < blocks; i++) {
        const block = first + i < end ? owned[first + i]! : this.#pool.zeroBlock;
        const poolRow = this.#pool.firstRowOf(block);
        for (let kv = 0; kv < keyValueHeads; kv++) {
          blockRows[(kv * count + row) * blocks + i] = poolRow + kv;
        }
      }
      const cached = position - first * size;
      for (let query = 0; query < queries; query++) {
        const from = (row * queries + query) * length;
        const before = Math.max(0, position + (query % tokensMax) + 1 - window) - first * size;
        const hidden = Math.min(before, cached);
        mask.fill(masked, from, from + hidden).fill(0, from + hidden, from + cached);
        mask.fill(masked, from + cached, from + length);
      }
    }
    const shape = [1, keyValueHeads, count, blocks];
    feeds[names.blockRows] = { type: "int32", data: blockRows, shape };
    const maskShape = [1, 1, count, queries, length];
    feeds[names.pastMask] = { type: "float32", data: mask, shape: maskShape };
  }

  /** Queries that meet one key head: those of all heads that share it, tokens of a head together. */
  #queriesPerKey(tokensMax: number): number {
    return (this.#dims.heads / this.#dims.keyValueHeads) * tokensMax;
  }

  /** Which tokens go to which adapter, and to which row and part of a product its update is added. */
  #adapterFeeds(feeds: Feeds, { places, size }: Groups, { tokens }: CallSizes): void {
    const { heads, keyValueHeads } = this.#dims;
    const n = Math.max(1, places.length);
    // Uneven groups are filled up with the spare token, whose sums nobody reads.
    const spare = tokens - 1;
    const grouped = this.#int32("groupTokens", n * size);
    for (let i = 0; i < n * size; i++)
      grouped[i] = places[Math.floor(i / size)]?.[i % size] ?? spare;
    feeds.groupTokens = { type: "int32", data: grouped, shape: [n, 1, size] };
    for (const parts of [1, 2, heads / keyValueHeads + 2]) {
      const width = parts === 1 ? 1 : 2;
      const name = `scatter${parts}`;
      const scatter = this.#int64(name, n * parts * size * width);
      for (let place = 0; place < n; place++) {
        for (let part = 0; part < parts; part++) {
          for (let i = 0; i < size; i++) {
            const at = ((place * parts + part) * size + i) * width;
            scatter.low[2 * at] = grouped[place * size + i]!;
            if (width === 2) scatter.low[2 * at + 2] = part;
          }
        }
      }
      feeds[name] = { type: "int64", data: scatter.data, shape: [n, parts, size, width] };
    }
  }

  #int32(name: string, length: number): Int32Array {
    return this.#view(name, length, Int32Array);
  }

  #float32(name: string, length: number): Float32Array {
    return this.#view(name, length, Float32Array);
  }

  /** Small whole numbers in 64 bits: `low` sees the same memory as pairs, low word first; all zero. */
  #int64(name: string, length: number): { data: BigInt64Array; low: Int32Array } {
    const data = this.#view(name, length, BigInt64Array);
    return { data, low: new Int32Array(data.buffer, data.byteOffset, 2 * length).fill(0) };
  }

  #view<T>(name: string, length: number, Type: TypedArray<T>): T {
    const bytes = length * Type.BYTES_PER_ELEMENT;
    let buffer = this.#buffers.get(name);
    if (!buffer || buffer.byteLength < bytes) {
      buffer = new ArrayBuffer(Math.max(2 * bytes, 64));
      this.#buffers.set(name, buffer);
    }
    return new Type(buffer, 0, length);
  }
}

/** What one way to attend sees, and the inputs that say so. */
type Sight = { sizes: CallSizes; window: number; names: ReturnType<typeof attentionInputs> };

type Groups = {
  /** Token numbers by place of the run. */
  places: number[][];
  /** Tokens of the largest group. */
  size: number;
  uneven: boolean;
};

export function countSamples(rows: readonly StepRow[]): number {
  return rows.reduce((sum, { samples }) => sum + samples, 0);
}

function countStates(rows: readonly StepRow[]): number {
  return rows.reduce((sum, { states = 0 }) => sum + states, 0);
}

function groupTokens(rows: readonly StepRow[], slots: AdapterSlots, run: SlotRun): Groups {
  const places: number[][] = Array.from({ length: run.count }, () => []);
  let token = 0;
  for (const row of rows) {
    const group = row.slot === 0 ? undefined : places[slots.placeOf(row.slot) - run.first];
    for (let i = 0; i < row.tokens.length; i++, token++) group?.push(token);
  }
  const size = Math.max(0, ...places.map((group) => group.length));
  return { places, size, uneven: places.some((group) => group.length < size) };
}

type TypedArray<T> = {
  new (buffer: ArrayBuffer, offset: number, length: number): T;
  BYTES_PER_ELEMENT: number;
};
