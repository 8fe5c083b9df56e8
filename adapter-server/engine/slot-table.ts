/** Which adapter sits in which slot, who uses it, and who comes next. Knows no weights. */
import { invariant } from "../../sdk/protocol/errors.ts";

/** A slot given to a sequence; `load` when the adapter must first be copied in. */
export type SlotGrant = { slot: number; load: boolean };

type Slot = {
  digest: string | undefined;
  /** Running sequences that use it. */
  users: number;
  usedAt: number;
  /** The adapter that gets the slot once its users are done: nobody new joins until then. */
  heir: string | undefined;
};

/** Slots are numbered from 1; slot 0 is the base model and belongs to nobody. */
export class SlotTable {
  readonly #slots: Slot[];
  #clock = 0;

  constructor(slots: number) {
    this.#slots = Array.from({ length: slots }, () => ({
      digest: undefined,
      users: 0,
      usedAt: 0,
      heir: undefined,
    }));
  }

  get size(): number {
    return this.#slots.length;
  }

  /** Digest by slot, slot 1 first. */
  residents(): (string | undefined)[] {
    return this.#slots.map((slot) => slot.digest);
  }

  /** The digest of what sits in the slot. */
  digestOf(slot: number): string | undefined {
    return this.#slots[slot - 1]?.digest;
  }

  /** Whether the adapter would get a slot now; not when there is none, nor when it must make way. */
  isFreeFor(digest: string): boolean {
    const resident = this.#slots.find((slot) => slot.digest === digest);
    return resident ? resident.heir === undefined : this.#vacancy(digest) !== -1;
  }

  /**
   * A slot for one more user of the adapter, where one is free for it: the one it sits in, an empty one, or the
   * least recently used of those that nobody uses.
   */
  acquire(digest: string): SlotGrant {
    const resident = this.#slots.findIndex((slot) => slot.digest === digest);
    if (resident !== -1) return this.#grant(resident, false);
    const index = this.#vacancy(digest);
    invariant(index !== -1, `a slot is free for ${digest}`);
    for (const slot of this.#slots) if (slot.heir === digest) slot.heir = undefined;
    this.#slots[index]!.digest = digest;
    return this.#grant(index, true);
  }

  release(slot: number): void {
    const entry = this.#slots[slot - 1];
    invariant(entry && entry.users > 0, `slot ${slot} is released once for each acquisition`);
    entry.users--;
  }

  /** The weights never arrived: nobody may think that the adapter is there. */
  vacate(slot: number): void {
    const entry = this.#slots[slot - 1];
    invariant(entry && entry.users === 0, "a slot is vacated after its last user left");
    entry.digest = undefined;
    entry.usedAt = 0;
  }

  /** Takes the adapter out of its slot, which nobody may be using. @returns the slot, if it had one */
  unload(digest: string): number | undefined {
    const index = this.#slots.findIndex((slot) => slot.digest === digest);
    if (index === -1) return undefined;
    this.vacate(index + 1);
    return index + 1;
  }

  /** Promises the slot to an adapter; its present users finish, no new ones come. */
  promise(slot: number, heir: string): void {
    this.#slots[slot - 1]!.heir = heir;
  }

  isPromisedTo(digest: string): boolean {
    return this.#slots.some((slot) => slot.heir === digest);
  }

  /** Slots that are promised to nobody. */
  unpromised(): number[] {
    return this.#slots.flatMap((slot, index) => (slot.heir === undefined ? [index + 1] : []));
  }

  /** Takes back promises to adapters that nobody waits for any more. */
  keepPromises(stillWanted: (digest: string) => boolean): void {
    for (const slot of this.#slots) {
      if (slot.heir !== undefined && !stillWanted(slot.heir)) slot.heir = undefined;
    }
  }

  /** Users by slot agree with who runs: for tests. */
  check(usersOf: (slot: number) => number): void {
    const digests = new Set<string>();
    for (const [index, slot] of this.#slots.entries()) {
      invariant(slot.users === usersOf(index + 1), `slot ${index + 1} counts its users`);
      if (slot.digest === undefined) continue;
      invariant(!digests.has(slot.digest), `adapter ${slot.digest} sits in one slot only`);
      digests.add(slot.digest);
    }
  }

  #grant(index: number, load: boolean): SlotGrant {
    const slot = this.#slots[index]!;
    slot.users++;
    slot.usedAt = ++this.#clock;
    return { slot: index + 1, load };
  }

  #vacancy(digest: string): number {
    let best = -1;
    for (const [index, slot] of this.#slots.entries()) {
      if (slot.users > 0) continue;
      if (slot.heir === digest) return index;
      if (slot.heir !== undefined) continue;
      if (best === -1 || rank(slot) < rank(this.#slots[best]!)) best = index;
    }
    return best;
  }
}

/** Empty slots first, then the one that was used longest ago. */
function rank(slot: Slot): number {
  return slot.digest === undefined ? -1 : slot.usedAt;
}
