/** Which names stand for which adapters, and which adapters are pinned. Knows no weights. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Sha256 } from "../../sdk/protocol/ids.ts";

export type NamedAdapter = { name: string; digest: Sha256; path: string; pinned: boolean };

export type NamedAdaptersOptions = {
  /** Adapters that have a name. */
  namesMax: number;
  /** Adapter slots; fewer adapters than that may be pinned. */
  slots: number;
};

export class NamedAdapters {
  readonly #options: NamedAdaptersOptions;
  /** By name, in the order of their loading. */
  readonly #names = new Map<string, NamedAdapter>();
  /** The first of each digest's names. */
  readonly #byDigest = new Map<string, NamedAdapter>();
  /** Digests that are pinned whether they have a name or not. */
  readonly #pinnedDigests = new Set<string>();
  /** One change of a name at a time. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(options: NamedAdaptersOptions) {
    this.#options = options;
  }

  list(): NamedAdapter[] {
    return [...this.#names.values()];
  }

  get(name: string): NamedAdapter | undefined {
    return this.#names.get(name);
  }

  /** The first name that was given to the adapter and still stands for it. */
  ofDigest(digest: string): NamedAdapter | undefined {
    return this.#byDigest.get(digest);
  }

  /** @throws HubError `invalid_value` when there are too many names, or when more would be pinned than fits */
  set(named: NamedAdapter): void {
    this.expectRoomFor(named);
    this.#names.set(named.name, named);
    this.#index();
  }

  delete(name: string): void {
    this.#names.delete(name);
    this.#index();
  }

  /** @throws HubError `invalid_value` when more would be pinned than fits */
  pinDigest(digest: string): void {
    this.#expectPinsFit(new Set([...this.#pinned(), digest]));
    this.#pinnedDigests.add(digest);
  }

  isPinned(digest: string): boolean {
    return this.#pinned().has(digest);
  }

  /** Whether somebody may ask for the adapter by name, or wants it kept. */
  isWanted(digest: string): boolean {
    return this.#byDigest.has(digest) || this.#pinnedDigests.has(digest);
  }

  /** @throws HubError `invalid_value` as `set` would; it takes long to get there */
  expectRoomFor(named: NamedAdapter): void {
    const { namesMax } = this.#options;
    if (!this.#names.has(named.name) && this.#names.size >= namesMax) {
      throw new HubError(
        "invalid_value",
        `${namesMax} adapters are loaded by name ('adapterNamesMax'); unload one first.`,
        { param: "lora_name" },
      );
    }
    if (named.pinned) this.#expectPinsFit(this.#pinned(named));
  }

  /** Runs when all that was begun before for the name is done. */
  async inTurn<T>(name: string, run: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(name) ?? Promise.resolve();
    const turn = before.then(run, run);
    this.#turns.set(name, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(name) === turn) this.#turns.delete(name);
    }
  }

  /** @param instead takes the place of what has its name now */
  #pinned(instead?: NamedAdapter): Set<string> {
    const pinned = new Set(this.#pinnedDigests);
    for (const named of this.#names.values()) {
      if (named.pinned && named.name !== instead?.name) pinned.add(named.digest);
    }
    if (instead?.pinned) pinned.add(instead.digest);
    return pinned;
  }

  /** One slot at least stays for whoever is not pinned. */
  #expectPinsFit(pinned: ReadonlySet<string>): void {
    const { slots } = this.#options;
    if (pinned.size < slots) return;
    throw new HubError(
      "invalid_value",
      `Pinned adapters would keep ${pinned.size} of ${slots} slots ('adapterSlots'); one has to stay for others.`,
      { param: "pinned" },
    );
  }

  #index(): void {
    this.#byDigest.clear();
    for (const named of this.#names.values()) {
      if (!this.#byDigest.has(named.digest)) this.#byDigest.set(named.digest, named);
    }
  }
}
