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
  #refusals = 0;

  constructor(limits: WaitingLimits, queue: FairQueue<Sequence>) {
    this.#limits = limits;
    this.#queue = queue;
  }

  /**
   * Makes room for one more. Who came with the last priority gives way to an earlier one. Among equals a full
   * room is shared as the engine is: the tenant that waits with most gives up its youngest place to one that waits
   * with fewer, so a flood keeps out only itself.
   * @returns who has to leave, if anybody
   * @throws HubError when nobody has to: `rate_limit_exceeded` where the room is full of the tenant's own among
   *   others', `server_is_overloaded` where it is full whoever asks
   */
  makeRoomFor(
    { tenant, priority }: Pick<Sequence, "tenant" | "priority">,
    nowMs: number,
  ): Sequence | undefined {
    if (this.#queue.size < this.#limits.waitingMax) return undefined;
    const last = this.#queue.lastCrowds();
    const refused = () => this.#refusal(this.#queue.crowds(tenant), nowMs);
    if (!last || last.priority < priority) throw refused();
    const own = last.crowds.find(([first]) => first?.tenant === tenant)?.length ?? 0;
    for (const crowd of last.crowds) {
      // One place of difference is none: it would only go to and fro.
      if (last.priority === priority && crowd.length <= own + 1) break;
      const leaving = crowd.findLast((sequence) => !hasSpoken(sequence));
      if (leaving) return leaving;
    }
    throw refused();
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

  /** What somebody hears who made way for another tenant or an earlier priority. */
  displaced({ id, tenant }: Sequence, nowMs: number): SequenceEvent {
    return { id, error: this.#refusal(this.#queue.crowds(tenant), nowMs) };
  }

  /** What somebody hears who waited too long. */
  turnedAway({ id }: Sequence, nowMs: number): SequenceEvent {
    return { id, error: this.#refusal(false, nowMs) };
  }

  /**
   * Tells to come back once those who wait now will have begun, at the rate at which sequences ended lately. Of those
   * who hear it together each is told another time, up to half as long again, so that they do not come together.
   * @param isCrowd whether it is the tenant's own part of the queue that is full
   */
  #refusal(isCrowd: boolean, nowMs: number): HubError {
    const elapsedMs = nowMs - this.#sinceMs;
    // Before anything ended, what is known is that one takes longer than this.
    const msPerEnd = this.#endsMs.length === 0 ? elapsedMs : elapsedMs / this.#endsMs.length;
    const soonestMs = Math.max(retryMsMin, Math.ceil(this.#queue.size * msPerEnd));
    this.#refusals++;
    const spread = 1 + retrySpread * ((this.#refusals * goldenRatio) % 1);
    const retryAfterMs = Math.ceil(Math.min(retryMsMax, soonestMs) * spread);
    const seconds = Math.ceil(retryAfterMs / 1000);
    return isCrowd
      ? new HubError(
          "rate_limit_exceeded",
          `Too many of your requests wait already, and others wait too. Try again in ${seconds} s.`,
          { retryAfterMs },
        )
      : new HubError(
          "server_is_overloaded",
          `${this.#queue.size} requests wait already. Try again in ${seconds} s.`,
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
/** Of the time that is told, how much later the last of many comes. */
const retrySpread = 0.5;
/** Its multiples lie evenly between 0 and 1 however many there are. */
const goldenRatio = (Math.sqrt(5) - 1) / 2;
