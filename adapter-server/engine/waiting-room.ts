/** How many may wait, how long, and what those hear who may not. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { FairQueue } from "./fair-queue.ts";
import { hasSpoken, type Sequence, type SequenceEvent, type SequenceRequest } from "./sequence.ts";

export type WaitingLimits = {
  /** Sequences that wait; further ones are refused. */
  waitingMax: number;
  /** How long a sequence waits for its first step before it is told to come back. */
  waitMsMax: number;
};

export class WaitingRoom {
  readonly #limits: WaitingLimits;
  readonly #queue: FairQueue<Sequence>;
  /** When the last sequences ended, since the engine was idle; the oldest first. */
  #endsMs: number[] = [];
  /** From when on these are counted. */
  #sinceMs = 0;

  constructor(limits: WaitingLimits, queue: FairQueue<Sequence>) {
    this.#limits = limits;
    this.#queue = queue;
  }

  /**
   * Makes room for one more. Who came with the last priority gives way to an earlier one. Among equals a full
   * room is shared as the engine is: the tenant that waits with most gives up its youngest place to one that waits
   * with fewer, so a flood keeps out only itself.
   * @returns who has to leave, if anybody
   * @throws HubError `server_is_overloaded` when nobody has to
   */
  makeRoomFor(
    { tenant, priority }: Pick<Sequence, "tenant" | "priority">,
    nowMs: number,
  ): Sequence | undefined {
    if (this.#queue.size < this.#limits.waitingMax) return undefined;
    const last = this.#queue.lastCrowds();
    const [crowd = []] = last?.crowds ?? [];
    const leaving = crowd.findLast((sequence) => !hasSpoken(sequence));
    if (!last || !leaving || last.priority < priority) throw this.refusal(nowMs);
    if (last.priority > priority) return leaving;
    const own = last.crowds.find(([first]) => first?.tenant === tenant)?.length ?? 0;
    // One place of difference is none: it would only go to and fro.
    if (crowd.length <= own + 1) throw this.refusal(nowMs);
    return leaving;
  }

  /** Those who waited too long for their first token. */
  overdue(nowMs: number): Sequence[] {
    const latest = nowMs - this.#limits.waitMsMax;
    return [...this.#queue.waiting()].filter(
      (sequence) => sequence.startedAtMs < latest && !hasSpoken(sequence),
    );
  }

  /** The engine was idle until now: how fast it was before says nothing. */
  open(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.#endsMs = [];
  }

  /** A sequence ended; how fast they do tells others when to come back. */
  observeEnd(nowMs: number): void {
    this.#endsMs.push(nowMs);
    if (this.#endsMs.length > endsKept) this.#sinceMs = this.#endsMs.shift()!;
  }

  turnedAway({ id }: Sequence, nowMs: number): SequenceEvent {
    return { id, error: this.refusal(nowMs) };
  }

  /** Tells to come back once those who wait now will have begun, at the rate at which sequences ended lately. */
  refusal(nowMs: number): HubError {
    const elapsedMs = nowMs - this.#sinceMs;
    // Before anything ended, what is known is that one takes longer than this.
    const msPerEnd = this.#endsMs.length === 0 ? elapsedMs : elapsedMs / this.#endsMs.length;
    const retryAfterMs = Math.min(
      retryMsMax,
      Math.max(retryMsMin, Math.ceil(this.#queue.size * msPerEnd)),
    );
    return new HubError(
      "server_is_overloaded",
      `${this.#queue.size} requests wait already. Try again in ${Math.ceil(retryAfterMs / 1000)} s.`,
      { retryAfterMs },
    );
  }
}

/** What a sequence hears whose client said until when an answer is of use. */
export function deadlinePassed({ timeoutMs }: Pick<SequenceRequest, "timeoutMs">): HubError {
  return new HubError(
    "deadline_exceeded",
    `The answer was not complete within the ${timeoutMs} ms that the request gave. Give it more time, or ask for fewer tokens.`,
  );
}

const endsKept = 64;
const retryMsMin = 100;
const retryMsMax = 60_000;
