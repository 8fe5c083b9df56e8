/** Sequences that are choices of one request: one computes the prompt, the others fork from it. */
import { hasSpoken, type Sequence } from "./sequence.ts";

/** What is asked of the running set: whether somebody runs. */
type Running = { has(sequence: Sequence): boolean };

export class Families {
  readonly #running: Running;
  /** Oldest first. */
  readonly #members = new Map<number, Sequence[]>();

  constructor(running: Running) {
    this.#running = running;
  }

  add(sequence: Sequence): void {
    const { family } = sequence;
    if (family === undefined) return;
    const members = this.#members.get(family);
    if (members) members.push(sequence);
    else this.#members.set(family, [sequence]);
  }

  remove(sequence: Sequence): void {
    const { family } = sequence;
    if (family === undefined) return;
    const members = this.#membersOf(sequence).filter((member) => member !== sequence);
    if (members.length > 0) this.#members.set(family, members);
    else this.#members.delete(family);
  }

  /** Whether another computes the prompt from which this one will go on. */
  isLed(sequence: Sequence): boolean {
    if (!this.#mayFollow(sequence)) return false;
    return this.#membersOf(sequence).some((member) => member !== sequence && this.#leads(member));
  }

  /** Those that go on from this one's prompt, once it is computed. */
  followersOf(sequence: Sequence): Sequence[] {
    if (sequence.family === undefined || hasSpoken(sequence)) return [];
    return this.#membersOf(sequence).filter(
      (member) => member !== sequence && this.#mayFollow(member) && !this.#running.has(member),
    );
  }

  /** One whose prompt is scored computes that itself. */
  #mayFollow(sequence: Sequence): boolean {
    const { family, promptLogprobs } = sequence;
    return family !== undefined && promptLogprobs === undefined && !hasSpoken(sequence);
  }

  #leads(sequence: Sequence): boolean {
    return this.#running.has(sequence) && !hasSpoken(sequence);
  }

  #membersOf({ family }: Sequence): readonly Sequence[] {
    return (family !== undefined && this.#members.get(family)) || none;
  }
}

const none: readonly Sequence[] = [];
