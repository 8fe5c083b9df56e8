/** Owns the KV cache's blocks: which sequences hold which, which are free, which can be used again. Knows no tensors. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { PrefixCache } from "./prefix-cache.ts";

/** Stands where a row's block table is padded; belongs to nobody, is written by no sequence. */
export const nullBlock = 0;

/** Cached blocks at the start of a sequence. */
export type Prefix = {
  /** In order. */
  blocks: readonly number[];
  /** Of these, the ones that nobody holds: they count as free until they are taken. */
  idle: number;
};

/** Keys and values to be copied from one block to another. */
export type BlockCopy = { from: number; to: number };

type Holding = {
  /** In order. */
  blocks: number[];
  /** Of these, how many from the start are named and thereby shared. */
  named: number;
};

export class BlockManager {
  readonly blockSize: number;
  /** Blocks that sequences may hold; the pool has one more, the null block. */
  readonly total: number;
  readonly #free: number[];
  readonly #held = new Map<number, Holding>();
  /** By block: sequences that hold it. */
  readonly #holders: Uint32Array;
  readonly #cache = new PrefixCache();

  /** @param blocks blocks in the pool, the null block included */
  constructor({ blocks, blockSize }: { blocks: number; blockSize: number }) {
    invariant(blocks >= 2 && blockSize >= 1, "a KV pool needs a null block and one more");
    this.blockSize = blockSize;
    this.total = blocks - 1;
    this.#holders = new Uint32Array(blocks);
    // Popped from the end, so that low numbers are used first and a small load stays in few pages.
    this.#free = Array.from({ length: this.total }, (_, index) => blocks - 1 - index);
  }

  /** Blocks that nobody holds; some of them are cached until somebody needs them. */
  get free(): number {
    return this.#free.length + this.#cache.idle;
  }

  get used(): number {
    return this.total - this.free;
  }

  /** Tokens that one sequence could have if it were alone. */
  get tokensMax(): number {
    return this.total * this.blockSize;
  }

  /** Blocks that `tokens` tokens take. */
  blocksFor(tokens: number): number {
    return Math.ceil(tokens / this.blockSize);
  }

  /** The sequence's blocks in order; the same array grows with the sequence. */
  blocksOf(sequenceId: number): readonly number[] {
    return this.#held.get(sequenceId)?.blocks ?? none;
  }

  /** The longest run of cached blocks from the start of `names` on. Nobody holds them by that. */
  find(names: readonly string[]): Prefix {
    const blocks: number[] = [];
    let idle = 0;
    for (const name of names) {
      const block = this.#cache.blockOf(name);
      if (block === undefined) break;
      if (this.#cache.isIdle(block)) idle++;
      blocks.push(block);
    }
    return { blocks, idle };
  }

  /** Gives a sequence that holds nothing the cached blocks to begin with; nobody writes to them. */
  adopt(sequenceId: number, { blocks }: Prefix): void {
    invariant(!this.#held.has(sequenceId), "a sequence begins with cached blocks or not at all");
    for (const block of blocks) this.#hold(block);
    this.#held.set(sequenceId, { blocks: [...blocks], named: blocks.length });
  }

  /** Lets a sequence that holds nothing hold all that another one holds. */
  share(ownerId: number, sequenceId: number): void {
    const owner = this.#held.get(ownerId);
    invariant(owner && !this.#held.has(sequenceId), "a fork begins with what its prompt holds");
    for (const block of owner.blocks) this.#hold(block);
    this.#held.set(sequenceId, { blocks: [...owner.blocks], named: owner.named });
  }

  /**
   * Makes the sequence's blocks from token `position` on its own, because it is about to write to them.
   * @returns which ones have to be copied, or `undefined` when too few blocks are free
   */
  own(sequenceId: number, position: number): BlockCopy[] | undefined {
    const held = this.#held.get(sequenceId);
    invariant(held, "who writes holds blocks");
    const { blocks } = held;
    const first = Math.floor(position / this.blockSize);
    const shared = blocks.slice(first).filter((block) => this.#holders[block]! > 1);
    if (shared.length > this.free) return undefined;
    return shared.map((from) => {
      const to = this.#take();
      blocks[blocks.indexOf(from)] = to;
      this.#letGo(from);
      return { from, to };
    });
  }

  /** Gives the sequence blocks for its first `tokens` tokens, all or, when too few are free, none. */
  grow(sequenceId: number, tokens: number): boolean {
    const held = this.#held.get(sequenceId) ?? { blocks: [], named: 0 };
    const missing = this.blocksFor(tokens) - held.blocks.length;
    if (missing <= 0) return true;
    if (missing > this.free) return false;
    for (let i = 0; i < missing; i++) held.blocks.push(this.#take());
    this.#held.set(sequenceId, held);
    return true;
  }

  /**
   * The sequence's first `count` blocks are full and their keys and values are stored: from now on others find
   * them. Where an equal block was there before, the sequence holds that one instead, so that what was
   * computed twice is kept once.
   */
  publish(sequenceId: number, names: readonly string[], count: number): void {
    const held = this.#held.get(sequenceId);
    invariant(held && held.blocks.length >= count, "only blocks that are held are named");
    for (; held.named < count; held.named++) {
      const name = names[held.named]!;
      const own = held.blocks[held.named]!;
      const equal = this.#cache.blockOf(name);
      if (equal === undefined) {
        this.#cache.add(name, own, held.blocks[held.named - 1]);
      } else {
        this.#hold(equal);
        held.blocks[held.named] = equal;
        this.#letGo(own);
      }
    }
  }

  /**
   * Takes all of the sequence's blocks back; nothing happens when it holds none. Named ones stay cached
   * until they are needed.
   */
  release(sequenceId: number): void {
    const held = this.#held.get(sequenceId);
    if (!held) return;
    this.#held.delete(sequenceId);
    for (let i = held.blocks.length - 1; i >= 0; i--) this.#letGo(held.blocks[i]!);
  }

  /** Takes back the blocks of a sequence that could not be computed. What others do not use is not cached. */
  discard(sequenceId: number): void {
    const named = this.blocksOf(sequenceId).filter((block) => this.#cache.isNamed(block));
    this.release(sequenceId);
    this.#free.push(...this.#cache.forget(named.filter((block) => this.#cache.isIdle(block))));
  }

  /** Every block is free, idle or held, and by as many as say so. Walks the whole pool: for tests. */
  check(): void {
    const holders = new Uint32Array(this.total + 1);
    for (const { blocks, named } of this.#held.values()) {
      invariant(named <= blocks.length, "only blocks that are held are named");
      invariant(new Set(blocks).size === blocks.length, "a sequence holds a block once");
      for (const [index, block] of blocks.entries()) {
        invariant(block > 0 && block <= this.total, `block ${block} is outside of the pool`);
        invariant(
          this.#cache.isNamed(block) === index < named,
          "what is full is named, and no more",
        );
        holders[block]!++;
      }
    }
    const seen = new Set<number>([nullBlock]);
    for (const block of this.#free) {
      invariant(block > 0 && block <= this.total, `block ${block} is outside of the pool`);
      invariant(!seen.has(block), `block ${block} is free twice`);
      invariant(holders[block] === 0 && !this.#cache.isNamed(block), `block ${block} is free`);
      seen.add(block);
    }
    for (let block = 1; block <= this.total; block++) {
      invariant(holders[block] === this.#holders[block], `block ${block} counts its holders`);
      if (holders[block]! > 0 || this.#cache.isIdle(block)) seen.add(block);
    }
    invariant(seen.size === this.total + 1, "free, idle and held blocks make up the pool");
    this.#cache.check((block) => holders[block]! > 0);
  }

  #take(): number {
    const block = this.#free.pop() ?? this.#cache.evict();
    invariant(block !== undefined, "blocks are taken when some are free");
    this.#holders[block] = 1;
    return block;
  }

  #hold(block: number): void {
    this.#holders[block]!++;
    this.#cache.wake(block);
  }

  #letGo(block: number): void {
    this.#holders[block]!--;
    if (this.#holders[block]! > 0) return;
    if (this.#cache.isNamed(block)) this.#cache.rest(block);
    else this.#free.push(block);
  }
}

const none: readonly number[] = [];
