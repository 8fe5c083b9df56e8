/** Which blocks can be used again: full ones, by name, and in which order they are given up. Knows no holders. */
import { invariant } from "../../sdk/protocol/errors.ts";

/**
 * A named block is never written again. While somebody holds it, it stays; once nobody does it is idle, and
 * the one that was idle longest is given up first. Whoever holds a block holds all that it follows, and they
 * become idle after it, so a block is never given up before those that follow it.
 */
export class PrefixCache {
  readonly #blocks = new Map<string, number>();
  readonly #names = new Map<number, string>();
  /** By block: the one that it follows. */
  readonly #parents = new Map<number, number | undefined>();
  /** Longest idle first. */
  readonly #idle = new Set<number>();

  /** Named blocks that nobody holds. */
  get idle(): number {
    return this.#idle.size;
  }

  blockOf(name: string): number | undefined {
    return this.#blocks.get(name);
  }

  isNamed(block: number): boolean {
    return this.#names.has(block);
  }

  isIdle(block: number): boolean {
    return this.#idle.has(block);
  }

  /** @param parent the block before it; absent for a sequence's first */
  add(name: string, block: number, parent: number | undefined): void {
    invariant(
      !this.#blocks.has(name) && !this.#names.has(block),
      "a block has one name of its own",
    );
    this.#blocks.set(name, block);
    this.#names.set(block, name);
    this.#parents.set(block, parent);
  }

  /** Its last holder let go of it. */
  rest(block: number): void {
    this.#idle.add(block);
  }

  /** Somebody holds it again. */
  wake(block: number): void {
    this.#idle.delete(block);
  }

  /** Gives up the block that was idle longest; `undefined` when none is. */
  evict(): number | undefined {
    const [block] = this.#idle;
    if (block !== undefined) this.#remove(block);
    return block;
  }

  /** Gives up these idle blocks and all that follow them. */
  forget(blocks: readonly number[]): number[] {
    const leaving = new Set(blocks);
    // Backwards, a block comes before those that follow it.
    for (const block of [...this.#idle].reverse()) {
      const parent = this.#parents.get(block);
      if (parent !== undefined && leaving.has(parent)) leaving.add(block);
    }
    for (const block of leaving) this.#remove(block);
    return [...leaving];
  }

  /** Names and blocks are pairs; what a block follows is there, and is given up later. For tests. */
  check(isHeld: (block: number) => boolean): void {
    invariant(this.#blocks.size === this.#names.size, "each name has one block");
    const met = new Set<number>();
    for (const block of this.#idle) {
      met.add(block);
      const parent = this.#parents.get(block);
      invariant(parent === undefined || !met.has(parent), "a block leaves before what it follows");
    }
    for (const [block, name] of this.#names) {
      invariant(this.#blocks.get(name) === block, "each block has one name");
      invariant(this.#idle.has(block) !== isHeld(block), `named block ${block} is idle or held`);
      const parent = this.#parents.get(block);
      if (parent === undefined) continue;
      invariant(this.#names.has(parent), "what a named block follows is named");
      invariant(isHeld(parent) || !isHeld(block), "who holds a block holds what it follows");
    }
  }

  #remove(block: number): void {
    const name = this.#names.get(block);
    invariant(name !== undefined && this.#idle.delete(block), "only idle blocks are given up");
    this.#names.delete(block);
    this.#parents.delete(block);
    this.#blocks.delete(name);
  }
}
