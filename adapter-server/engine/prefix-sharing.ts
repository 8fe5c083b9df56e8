/** What sequences use of each other's beginnings: who finds what, who waits for what, who publishes what. */
import type { BlockManager, Prefix } from "./block-manager.ts";
import { nameBlocks } from "./block-names.ts";
import { type Sequence, unscored } from "./sequence.ts";

export class PrefixSharing {
  /** Tokens of prompts that were looked for, and those that were there; each sequence once. */
  tokensQueried = 0;
  tokensHit = 0;
  readonly #blocks: BlockManager;
  readonly #isOn: boolean;

  /** @param isOn when it is not, nothing is found and nothing published */
  constructor(blocks: BlockManager, isOn: boolean) {
    this.#blocks = blocks;
    this.#isOn = isOn;
  }

  /**
   * What is cached of a sequence that does not run; nothing is where something is wanted of every token beside keys
   * and values, which are all that is kept. The last token is always computed, because the next one is chosen from its logits. Its block is computed with it rather than copied: a few more tokens in a call
   * that is made anyway, and a shared block is never written to.
   */
  find(sequence: Sequence): Prefix {
    if (needsAll(sequence)) return { blocks: [], idle: 0 };
    const count = this.#name(sequence, sequence.tokens.length - 1);
    return this.#blocks.find(sequence.blockNames.slice(0, count));
  }

  /**
   * The running sequence that computes most of what this one lacks beside `prefix`, as when a request asks for
   * several choices, and up to which token: it is worth the few steps until that is done.
   */
  computedBy(
    sequence: Sequence,
    { blocks }: Prefix,
    running: readonly Sequence[],
  ): Sequence["behind"] {
    const { blockSize } = this.#blocks;
    const { blockNames, tokens } = sequence;
    const found = blocks.length;
    const next = blockNames[found];
    if (next === undefined || needsAll(sequence)) return undefined;
    const ahead = running.find((other) => other.blockNames[found] === next);
    if (!ahead) return undefined;
    let alike = found + 1;
    while (alike < blockNames.length && blockNames[alike] === ahead.blockNames[alike]) alike++;
    const isMost = 2 * (alike - found) * blockSize >= tokens.length - found * blockSize;
    return isMost ? { ahead, until: alike * blockSize } : undefined;
  }

  /** The sequence begins with what was found. */
  begin(sequence: Sequence, prefix: Prefix): void {
    this.#blocks.adopt(sequence.id, prefix);
    sequence.sharedMax = Number.POSITIVE_INFINITY;
    sequence.computed = prefix.blocks.length * this.#blocks.blockSize;
    if (this.#isOn && sequence.cachedTokens === undefined) {
      this.tokensQueried += sequence.prompt.length;
      this.tokensHit += sequence.computed;
    }
    sequence.cachedTokens ??= sequence.computed;
  }

  /**
   * Whoever begins as this sequence does finds from now on what is computed of it, up to where other weights computed
   * something: what is found is always what would have been computed.
   */
  publish(sequence: Sequence): void {
    const count = this.#name(sequence, Math.min(sequence.computed, sequence.sharedMax));
    this.#blocks.publish(sequence.id, sequence.blockNames, count);
  }

  /** Names the full blocks among the sequence's first `tokens` tokens, and counts them. */
  #name(sequence: Sequence, tokens: number): number {
    if (!this.#isOn) return 0;
    const { blockSize } = this.#blocks;
    const count = Math.floor(tokens / blockSize);
    nameBlocks(sequence.blockNames, sequence, { count, blockSize });
    return count;
  }
}

/** Whether every token has to be computed, whatever is cached. */
function needsAll(sequence: Sequence): boolean {
  return sequence.pooling === "mean" || unscored(sequence) > 0;
}
