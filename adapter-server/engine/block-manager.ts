/** Owns the KV cache's blocks: which sequence holds which, and which are free. Knows no tensors. */
import { invariant } from "../../sdk/protocol/errors.ts";

/** Stands where a row's block table is padded; belongs to nobody, is written by no sequence. */
export const nullBlock = 0;

export class BlockManager {
  readonly blockSize: number;
  /** Blocks that sequences may hold; the pool has one more, the null block. */
  readonly total: number;
  readonly #free: number[];
  readonly #held = new Map<number, number[]>();

  /** @param blocks blocks in the pool, the null block included */
  constructor({ blocks, blockSize }: { blocks: number; blockSize: number }) {
    invariant(blocks >= 2 && blockSize >= 1, "a KV pool needs a null block and one more");
    this.blockSize = blockSize;
    this.total = blocks - 1;
    // Popped from the end, so that low numbers are used first and a small load stays in few pages.
    this.#free = Array.from({ length: this.total }, (_, index) => blocks - 1 - index);
  }

  get free(): number {
    return this.#free.length;
  }

  get used(): number {
    return this.total - this.#free.length;
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
    return this.#held.get(sequenceId) ?? none;
  }

  /** Gives the sequence blocks for its first `tokens` tokens, all or, when too few are free, none. */
  grow(sequenceId: number, tokens: number): boolean {
    const held = this.#held.get(sequenceId);
    const missing = this.blocksFor(tokens) - (held?.length ?? 0);
    if (missing <= 0) return true;
    if (missing > this.#free.length) return false;
    const blocks = held ?? [];
    for (let i = 0; i < missing; i++) blocks.push(this.#free.pop()!);
    if (!held) this.#held.set(sequenceId, blocks);
    return true;
  }

  /** Takes all of the sequence's blocks back; nothing happens when it holds none. */
  release(sequenceId: number): void {
    const held = this.#held.get(sequenceId);
    if (!held) return;
    this.#held.delete(sequenceId);
    for (let i = held.length - 1; i >= 0; i--) this.#free.push(held[i]!);
  }

  /** Every block is free or held, exactly once. Walks the whole pool: for tests. */
  check(): void {
    const seen = new Set<number>([nullBlock]);
    for (const blocks of [this.#free, ...this.#held.values()]) {
      for (const block of blocks) {
        invariant(block > 0 && block <= this.total, `block ${block} is outside of the pool`);
        invariant(!seen.has(block), `block ${block} is held twice`);
        seen.add(block);
      }
    }
    invariant(seen.size === this.total + 1, "free and held blocks make up the pool");
  }
}

const none: readonly number[] = [];
