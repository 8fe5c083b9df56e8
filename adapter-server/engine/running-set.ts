/** Who runs, and what they hold: blocks, a slot, their tenant's account. Who needs blocks takes them from the youngest. */
import { invariant } from "../../sdk/protocol/errors.ts";
import type { BlockCopy, BlockManager, Prefix } from "./block-manager.ts";
import { type FairQueue, insertByArrival } from "./fair-queue.ts";
import { statesWanted } from "./pooling.ts";
import type { PrefixSharing } from "./prefix-sharing.ts";
import { remaining, type Sequence, unscored } from "./sequence.ts";
import type { SlotTable } from "./slot-table.ts";
import type { StepRow } from "./types.ts";

export type RunningParts = {
  blocks: BlockManager;
  slots: SlotTable;
  queue: FairQueue<Sequence>;
  prefixes: PrefixSharing;
};

export class RunningSet {
  /** Sequences that lost their blocks to others. */
  preemptions = 0;
  readonly #parts: RunningParts;
  /** Oldest first. */
  readonly #sequences: Sequence[] = [];
  readonly #members = new Set<Sequence>();

  constructor(parts: RunningParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#sequences.length;
  }

  has(sequence: Sequence): boolean {
    return this.#members.has(sequence);
  }

  /** Oldest first. */
  all(): readonly Sequence[] {
    return this.#sequences;
  }

  /** A sequence that waited runs from now on, in its slot and from the cached prefix on. */
  start(sequence: Sequence, prefix: Prefix): void {
    const { blocks, queue, prefixes } = this.#parts;
    prefixes.begin(sequence, prefix);
    blocks.grow(sequence.id, sequence.tokens.length);
    // What is computed again, because its blocks were taken, was paid for.
    const free = Math.max(sequence.paid, sequence.computed);
    queue.start(sequence, Math.max(0, sequence.tokens.length - free));
    sequence.paid = sequence.tokens.length;
    this.#enter(sequence);
  }

  /** Gives back all that it holds, and what its tenant paid for tokens that were not computed. */
  stop(sequence: Sequence): void {
    const { blocks, slots, queue } = this.#parts;
    const place = this.#sequences.indexOf(sequence);
    invariant(place !== -1 && this.#members.delete(sequence), "only who runs stops");
    this.#sequences.splice(place, 1);
    if (remaining(sequence) > 1) {
      queue.charge(sequence, sequence.computed - sequence.paid);
      sequence.paid = sequence.computed;
    }
    queue.stop(sequence);
    blocks.release(sequence.id);
    if (sequence.slot !== 0) slots.release(sequence.slot);
    sequence.slot = 0;
  }

  /**
   * Blocks for all of the sequence's tokens; others make way for it. False when it had to make way itself.
   *
   * Whoever ranks first keeps its blocks, and whoever takes some decodes a token in this step. So however ranks
   * change from step to step, tokens are said, and none that was said is lost.
   * @param copies gains the blocks that the sequence shared until now and is about to write to
   */
  makeRoom(sequence: Sequence, copies: BlockCopy[]): boolean {
    const { blocks } = this.#parts;
    for (;;) {
      const hasGrown = blocks.grow(sequence.id, sequence.tokens.length);
      const owned = hasGrown ? blocks.own(sequence.id, sequence.computed) : undefined;
      if (owned) {
        copies.push(...owned);
        return true;
      }
      const last = this.#last();
      this.#preempt(last);
      if (last === sequence) return false;
    }
  }

  /** A sequence that waited goes on from where `leader` has computed their prompt, with its blocks and its slot. */
  fork(leader: Sequence, sequence: Sequence): void {
    const { blocks, slots, queue } = this.#parts;
    blocks.share(leader.id, sequence.id);
    queue.start(sequence, 0);
    sequence.computed = leader.computed;
    sequence.paid = leader.computed;
    sequence.sharedMax = leader.sharedMax;
    sequence.cachedTokens = leader.cachedTokens;
    sequence.blockNames = [...leader.blockNames];
    sequence.level = leader.level;
    if (leader.adapter !== undefined) sequence.slot = slots.acquire(leader.adapter).slot;
    this.#enter(sequence);
  }

  /** The sequence's next `length` tokens, and guesses at what follows them. */
  row(sequence: Sequence, length: number, guesses: readonly number[] = []): StepRow {
    return {
      sequenceId: sequence.id,
      tokens: [...sequence.tokens.slice(sequence.computed, sequence.computed + length), ...guesses],
      position: sequence.computed,
      blocks: this.#parts.blocks.blocksOf(sequence.id),
      slot: sequence.slot,
      ...wanted(sequence, { length, guesses: guesses.length }),
    };
  }

  #enter(sequence: Sequence): void {
    sequence.slotMissedAtMs = undefined;
    sequence.placesMissedAtMs = undefined;
    insertByArrival(this.#sequences, sequence);
    this.#members.add(sequence);
  }

  /** Of the last priority, of the tenant that was served most, the youngest. */
  #last(): Sequence {
    const { queue } = this.#parts;
    return this.#sequences.reduce((last, one) => {
      const difference =
        one.level - last.level || queue.servedOf(one.tenant) - queue.servedOf(last.tenant);
      return difference >= 0 ? one : last;
    });
  }

  /** Back into the queue without its blocks; what it has generated is prompt when it runs again. */
  #preempt(sequence: Sequence): void {
    this.preemptions++;
    sequence.preemptions++;
    // First into the queue: its tenant was not away meanwhile.
    this.#parts.queue.push(sequence);
    this.stop(sequence);
    sequence.computed = 0;
  }
}

/** What is asked of a row beside keys and values: only that of a sequence's last tokens tells what comes next. */
function wanted(
  sequence: Sequence,
  { length, guesses }: { length: number; guesses: number },
): Pick<StepRow, "samples" | "scores" | "states"> {
  const endsSequence = sequence.computed + length === sequence.tokens.length;
  const { pooling } = sequence;
  if (pooling !== undefined) {
    return { samples: 0, states: statesWanted(pooling, { tokens: length, endsSequence }) };
  }
  if (unscored(sequence) > 0) {
    // After a preemption some are known already, and their logits need not be computed again.
    const samples = Math.max(0, length - Math.max(0, sequence.scored.length - sequence.computed));
    return { samples, scores: endsSequence ? samples - 1 : samples };
  }
  return { samples: endsSequence ? 1 + guesses : 0 };
}
