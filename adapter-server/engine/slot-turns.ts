/** How adapter slots change hands: who waits for one, which one is kept for it, and who may still join there. */
import type { FairQueue } from "./fair-queue.ts";
import type { RunningSet } from "./running-set.ts";
import { remaining, type Sequence } from "./sequence.ts";
import type { SlotTable } from "./slot-table.ts";

export type SlotTurnsParts = {
  limits: { slotWaitMsMax: number; prefillChunkMax: number };
  slots: SlotTable;
  queue: FairQueue<Sequence>;
  running: RunningSet;
};

/**
 * After a while a slot is promised to the adapter that waits, so that a stream of requests for adapters that are
 * loaded cannot keep it out for ever: the slot that will be free soonest. What runs there ends, and until then
 * only those join who end no later. So nobody waits, from its turn on, longer than `slotWaitMsMax` and the steps
 * that were left in the slot when it was promised, as long as nobody there loses its blocks.
 * @see SGLang's LoRADrainer, which waits in the same way
 */
export class SlotTurns {
  readonly #parts: SlotTurnsParts;

  constructor(parts: SlotTurnsParts) {
    this.#parts = parts;
  }

  /** Takes back promises to adapters that nobody waits for any more. */
  begin(): void {
    this.#parts.slots.keepPromises((digest) => this.#isWaitedFor(digest));
  }

  /**
   * Whether a sequence that waits may have a slot now.
   * @param fitsStep whether its whole prompt would be computed in this step, so that nothing delays its tokens
   */
  isOpenTo(sequence: Sequence, fitsStep: boolean): boolean {
    const { slots } = this.#parts;
    const { adapter } = sequence;
    if (adapter === undefined || slots.isFreeFor(adapter)) return true;
    const slot = slots.slotOf(adapter);
    return slot !== undefined && fitsStep && this.#stepsLeft(sequence) <= this.#stepsLeftIn(slot);
  }

  /** The sequence would run if it had a slot. */
  wait(sequence: Sequence, nowMs: number): void {
    const { limits, slots } = this.#parts;
    sequence.slotMissedAtMs ??= nowMs;
    if (nowMs - sequence.slotMissedAtMs < limits.slotWaitMsMax) return;
    if (sequence.adapter === undefined || slots.isPromisedTo(sequence.adapter)) return;
    let best: number | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const slot of slots.unpromised()) {
      const left = this.#stepsLeftIn(slot);
      if (left < least) [best, least] = [slot, left];
    }
    if (best !== undefined) slots.promise(best, sequence.adapter);
  }

  #stepsLeftIn(slot: number): number {
    let most = 0;
    for (const sequence of this.#parts.running.all()) {
      if (sequence.slot === slot) most = Math.max(most, this.#stepsLeft(sequence));
    }
    return most;
  }

  /** Steps until it has said all that it may: its prompt's last chunk says the first token. */
  #stepsLeft(sequence: Sequence): number {
    const { prompt, tokens, maxTokens } = sequence;
    const chunks = Math.ceil(remaining(sequence) / this.#parts.limits.prefillChunkMax);
    return chunks - 1 + prompt.length + maxTokens - tokens.length;
  }

  #isWaitedFor(digest: string): boolean {
    for (const { adapter } of this.#parts.queue.waiting()) if (adapter === digest) return true;
    return false;
  }
}
