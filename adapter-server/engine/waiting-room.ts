/** How many may wait, how long, and what those hear who may not. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { FairQueue } from "./fair-queue.ts";
import { hasSpoken, type Sequence, type SequenceEvent } from "./sequence.ts";

export type WaitingLimits = {
  /** Sequences that wait; further ones are refused. */
  waitingMax: number;
  /** How long a sequence waits for its first step before it is told to come back. */
  waitMsMax: number;
  /** Sequences that run at one time. */
  sequencesMax: number;
};

export class WaitingRoom {
  readonly #limits: WaitingLimits;
  readonly #queue: FairQueue<Sequence>;
  /** Moving average of a sequence's time from arrival to end. */
  #sequenceMs = 1000;

  constructor(limits: WaitingLimits, queue: FairQueue<Sequence>) {
    this.#limits = limits;
    this.#queue = queue;
  }

  /**
   * Makes room for one more of this tenant. A full room is shared as the engine is: the tenant that waits
   * with most gives up its youngest place to one that waits with fewer, so a flood keeps out only itself.
   * @returns who has to leave, if anybody
   * @throws HubError `server_is_overloaded` when nobody has to
   */
  makeRoomFor(tenant: string): Sequence | undefined {
    if (this.#queue.size < this.#limits.waitingMax) return undefined;
    const [crowd = []] = this.#queue.crowds();
    const own = this.#queue.waitingOf(tenant);
    const leaving = crowd.findLast((sequence) => !hasSpoken(sequence));
    // One place of difference is none: it would only go to and fro.
    if (!leaving || crowd.length <= own + 1) throw this.refusal();
    return leaving;
  }

  /** Those who waited too long for their first token. */
  overdue(nowMs: number): Sequence[] {
    const latest = nowMs - this.#limits.waitMsMax;
    return [...this.#queue.waiting()].filter(
      (sequence) => sequence.startedAtMs < latest && !hasSpoken(sequence),
    );
  }

  /** A sequence ended; how long it took tells others when to come back. */
  observe(tookMs: number): void {
    this.#sequenceMs += (tookMs - this.#sequenceMs) / 16;
  }

  turnedAway({ id }: Sequence): SequenceEvent {
    return { id, error: this.refusal() };
  }

  refusal(): HubError {
    const rounds = this.#queue.size / this.#limits.sequencesMax;
    const retryAfterMs = Math.min(60_000, Math.max(100, rounds * this.#sequenceMs));
    return new HubError(
      "server_is_overloaded",
      `${this.#queue.size} requests wait already. Try again in ${Math.ceil(retryAfterMs / 1000)} s.`,
      { retryAfterMs },
    );
  }
}
