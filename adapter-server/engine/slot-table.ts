/** Which adapter sits in which slot, who uses it, and who comes next. Knows no weights. */
import { invariant } from "../../sdk/protocol/errors.ts";
import { firstUse, type Uses, use, worthOf } from "../lora/eviction.ts";

/** A slot given to a sequence; `load` when the adapter must first be copied in. */
export type SlotGrant = { slot: number; load: boolean };

type Slot = {
  digest: string | undefined;
  /** Running sequences that use it. */
  users: number;
  uses: Uses;
  /** The adapter that gets the slot once its users are done: nobody new joins until then. */
  heir: string | undefined;
};

/** Slots are numbered from 1; slot 0 is the base model and belongs to nobody. */
export class SlotTable {
  readonly #slots: Slot[];
  /** Adapters that keep the slot they are in. */
  readonly #pinned = new Set<string>();
  readonly #costOf: (digest: string) => number;
  #clock = 0;
  readonly #evicted: string[] = [];

  /** @param costOf what it costs to bring an adapter into a slot, in any unit */
  constructor(slots: number, costOf: (digest: string) => number = () => 1) {
    this.#costOf = costOf;
    this.#slots = Array.from({ length: slots }, () => ({
      digest: undefined,
      users: 0,
      uses: firstUse(0),
      heir: undefined,
    }));
  }

  /** Adapters that made way for others since this was asked last, as far as anybody asks. */
  takeEvicted(): string[] {
    return this.#evicted.splice(0);
  }

  /** Whether the adapter, once it has a slot, keeps it. */
  pin(digest: string, pinned: boolean): void {
    if (!pinned) {
      this.#pinned.delete(digest);
      return;
    }
    this.#pinned.add(digest);
    // Who was promised its slot is promised another.
    for (const slot of this.#slots) if (slot.digest === digest) slot.heir = undefined;
  }

  get size(): number {
    return this.#slots.length;
  }

  /** Digest by slot, slot 1 first. */
  residents(): (string | undefined)[] {
    return this.#slots.map((slot) => slot.digest);
  }

  /** The slot that the adapter sits in. */
  slotOf(digest: string): number | undefined {
    const index = this.#slots.findIndex((slot) => slot.digest === digest);
    return index === -1 ? undefined : index + 1;
  }

  /** The digest of what sits in the slot. */
  digestOf(slot: number): string | undefined {
    return this.#slots[slot - 1]?.digest;
  }

  /** Whether the adapter would get a slot now; not when there is none, nor when it must make way. */
  isFreeFor(digest: string): boolean {
    const resident = this.#slots.find((slot) => slot.digest === digest);
    if (resident) return resident.heir === undefined;
    return this.#slots.some((slot) => this.#isVacantFor(slot, digest));
  }

  /**
   * A slot for one more user of the adapter, where one is free for it: the one it sits in, an empty one, or of
   * those that nobody uses the one whose adapter is worth least.
   */
  acquire(digest: string): SlotGrant {
    const resident = this.#slots.findIndex((slot) => slot.digest === digest);
    if (resident !== -1) return this.#grant(resident, false);
    const index = this.#vacancy(digest);
    invariant(index !== -1, `a slot is free for ${digest}`);
    for (const slot of this.#slots) if (slot.heir === digest) slot.heir = undefined;
    const slot = this.#slots[index]!;
    if (slot.digest !== undefined) this.#evicted.push(slot.digest);
    if (this.#evicted.length > evictedKeptMax) this.#evicted.shift();
    slot.digest = digest;
    slot.uses = { count: 0, at: this.#clock };
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

  /** Whether the slot's users are to finish because another adapter comes. */
  isDraining(slot: number): boolean {
    return this.#slots[slot - 1]?.heir !== undefined;
  }

  isPromisedTo(digest: string): boolean {
    return this.#slots.some((slot) => slot.heir === digest);
  }

  /** Slots that may be promised, and are to nobody. */
  unpromised(): number[] {
    return this.#slots.flatMap((slot, index) =>
      slot.heir === undefined && !this.#isPinned(slot) ? [index + 1] : [],
    );
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
    slot.uses = use(slot.uses, ++this.#clock);
    return { slot: index + 1, load };
  }

  #vacancy(digest: string): number {
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (const [index, slot] of this.#slots.entries()) {
      if (!this.#isVacantFor(slot, digest)) continue;
      if (slot.heir === digest) return index;
      const worth = this.#worth(slot);
      if (worth < least) [best, least] = [index, worth];
    }
    return best;
  }

  #isVacantFor(slot: Slot, digest: string): boolean {
    const isFree = slot.users === 0 && !this.#isPinned(slot);
    return isFree && (slot.heir === undefined || slot.heir === digest);
  }

  /** Empty slots first. */
  #worth({ digest, uses }: Slot): number {
    if (digest === undefined) return -1;
    return worthOf(uses, { clock: this.#clock, cost: this.#costOf(digest) });
  }

  #isPinned({ digest }: Slot): boolean {
    return digest !== undefined && this.#pinned.has(digest);
  }
}

/** Evictions that wait to be asked for. */
const evictedKeptMax = 1000;
