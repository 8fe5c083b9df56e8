/** The adapters in host memory: loaded once, counted while used, dropped longest unused first. */
import type { PackedAdapter } from "../engine/types.ts";
import { packedBytes } from "./shared-weights.ts";

/** Keeps an adapter in memory until it is released, once. */
export type AdapterLease = { adapter: PackedAdapter; release(): void };

export type AdapterCacheOptions = {
  /** Adapters that nobody uses are dropped beyond this. Those in use count, and are never dropped. */
  bytesMax: number;
  onLoaded: (adapter: PackedAdapter) => void;
  onDropped: (digest: string) => void;
};

type Entry = {
  ready: Promise<PackedAdapter>;
  bytes: number;
  users: number;
  /** To be dropped by its last user, however much room there is. */
  unwanted: boolean;
};

export class AdapterCache {
  readonly #options: AdapterCacheOptions;
  /** By digest; the longest unused first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(options: AdapterCacheOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  has(digest: string): boolean {
    return this.#entries.has(digest);
  }

  /**
   * The adapter, from memory or by `load`. Who asks for one that is being loaded waits for that load;
   * loads of different adapters do not wait for each other. A failed load is forgotten.
   */
  async acquire(digest: string, load: () => Promise<PackedAdapter>): Promise<AdapterLease> {
    const entry = this.#entries.get(digest) ?? this.#start(load);
    entry.users++;
    entry.unwanted = false;
    this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    try {
      const adapter = await entry.ready;
      return { adapter, release: once(() => this.#release(digest, entry)) };
    } catch (error) {
      entry.users--;
      if (this.#entries.get(digest) === entry) this.#entries.delete(digest);
      throw error;
    }
  }

  /** Drops the adapter, now or when its last user is done. */
  drop(digest: string): void {
    const entry = this.#entries.get(digest);
    if (!entry) return;
    if (entry.users > 0) entry.unwanted = true;
    else this.#remove(digest, entry);
  }

  #start(load: () => Promise<PackedAdapter>): Entry {
    const entry: Entry = { ready: load(), bytes: 0, users: 0, unwanted: false };
    entry.ready = entry.ready.then((adapter) => {
      entry.bytes = packedBytes(adapter);
      this.#bytes += entry.bytes;
      this.#options.onLoaded(adapter);
      this.#makeRoom();
      return adapter;
    });
    return entry;
  }

  #release(digest: string, entry: Entry): void {
    entry.users--;
    if (entry.users === 0 && entry.unwanted) this.#remove(digest, entry);
    this.#makeRoom();
  }

  #makeRoom(): void {
    for (const [digest, entry] of this.#entries) {
      if (this.#bytes <= this.#options.bytesMax) return;
      if (entry.users === 0) this.#remove(digest, entry);
    }
  }

  #remove(digest: string, entry: Entry): void {
    this.#entries.delete(digest);
    this.#bytes -= entry.bytes;
    this.#options.onDropped(digest);
  }
}

function once(run: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    run();
  };
}
