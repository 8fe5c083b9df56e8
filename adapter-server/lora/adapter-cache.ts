/** The adapters in host memory: loaded once, counted while used, never more than fit, the least worth dropped first. */
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { firstUse, type Uses, use, worthOf } from "./eviction.ts";
import { packedBytes } from "./shared-weights.ts";

/** Keeps an adapter in memory until it is released, once. */
export type AdapterLease = { adapter: PackedAdapter; release(): void };

/** Waits until so many bytes may be filled; called once, before they are. */
export type TakeRoom = (bytes: number) => Promise<void>;
export type LoadAdapter = (takeRoom: TakeRoom) => Promise<PackedAdapter>;

export type AdapterCacheOptions = {
  /** Never exceeded. What is in use or pinned stays, so loads may have to wait. */
  bytesMax: number;
  /** How long a load waits for room before its requests are told to come back. */
  roomWaitMsMax: number;
  nowMs: () => number;
  /** Before anybody has it; what it throws, the load throws. */
  makeReady: (adapter: PackedAdapter) => Promise<void>;
  onLoaded: (adapter: PackedAdapter) => void;
  /** Nobody here has it any more. */
  onDropped: (adapter: PackedAdapter, why: DropReason) => void;
};

/** To make room for others, or because it was asked for. */
export type DropReason = "evicted" | "unwanted";

type Entry = {
  ready: Promise<PackedAdapter>;
  /** Once it is loaded. */
  adapter: PackedAdapter | undefined;
  /** Reserved from before the weights are there. */
  bytes: number;
  users: number;
  pinned: boolean;
  /** To be dropped by its last user, however much room there is. */
  unwanted: boolean;
  uses: Uses;
  /** Milliseconds that its load took for each byte. */
  cost: number;
};

type Waiting = { entry: Entry; bytes: number; sinceMs: number; admit: () => void };

export class AdapterCache {
  readonly #options: AdapterCacheOptions;
  /** By digest. */
  readonly #entries = new Map<string, Entry>();
  /** Loads that wait for room; the oldest first. */
  readonly #waiting: Waiting[] = [];
  #bytes = 0;
  #clock = 0;

  constructor(options: AdapterCacheOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get pinnedBytes(): number {
    let bytes = 0;
    for (const entry of this.#entries.values()) if (entry.pinned) bytes += entry.bytes;
    return bytes;
  }

  /** Bytes that an adapter takes, or has reserved; 0 before. */
  bytesOf(digest: string): number {
    return this.#entries.get(digest)?.bytes ?? 0;
  }

  /** Bytes that these adapters, and what is made of them, may have at one time: all but those of other pinned ones. */
  roomFor(digests: ReadonlySet<string>): number {
    let room = this.#options.bytesMax;
    for (const [digest, { pinned, bytes }] of this.#entries) {
      if (pinned && !digests.has(digest)) room -= bytes;
    }
    return room;
  }

  /** Digests of the adapters that are loaded. */
  loaded(): string[] {
    return [...this.#entries].flatMap(([digest, entry]) => (entry.adapter ? [digest] : []));
  }

  has(digest: string): boolean {
    return this.#entries.get(digest)?.adapter !== undefined;
  }

  /**
   * The adapter, from memory or by `load`. Who asks for one that is being loaded waits for that load;
   * loads of different adapters do not wait for each other's files. A failed load is forgotten.
   * @throws HubError `request_cancelled` when the signal says so, and what `load` throws
   */
  async acquire(digest: string, load: LoadAdapter, signal?: AbortSignal): Promise<AdapterLease> {
    if (signal?.aborted) throw cancelled();
    const entry = this.#entries.get(digest) ?? this.#start(digest, load);
    entry.users++;
    entry.unwanted = false;
    entry.uses = use(entry.uses, ++this.#clock);
    try {
      const adapter = await unlessAborted(entry.ready, signal);
      return { adapter, release: once(() => this.#release(digest, entry)) };
    } catch (error) {
      this.#release(digest, entry);
      throw error;
    }
  }

  /** Keeps the adapter, or no longer; one that is being loaded counts. False when there is none. */
  pin(digest: string, pinned: boolean): boolean {
    const entry = this.#entries.get(digest);
    if (!entry) return false;
    entry.pinned = pinned;
    if (!pinned) this.#admitWaiting();
    return true;
  }

  /** Drops the adapter, now or when its last user is done. False when there is none. */
  drop(digest: string): boolean {
    const entry = this.#entries.get(digest);
    if (!entry) return false;
    entry.unwanted = true;
    this.#removeIfUnwanted(digest, entry);
    this.#admitWaiting();
    return true;
  }

  /** The sums agree, and nothing waits that could be let in: for tests. */
  check(): void {
    let bytes = 0;
    for (const entry of this.#entries.values()) {
      bytes += entry.bytes;
      invariant(entry.users >= 0, "a lease is released once");
    }
    invariant(bytes === this.#bytes, "bytes are those of the entries");
    invariant(bytes <= this.#options.bytesMax, "host memory is bounded");
    const [first] = this.#waiting;
    invariant(!first || this.#spare() < first.bytes, "who waits longest waits for a reason");
  }

  #start(digest: string, load: LoadAdapter): Entry {
    const startMs = this.#options.nowMs();
    const entry: Entry = {
      ready: Promise.reject(),
      adapter: undefined,
      bytes: 0,
      users: 0,
      pinned: false,
      unwanted: false,
      uses: firstUse(this.#clock),
      cost: 0,
    };
    // Replaced below; until then it is nobody's.
    entry.ready.catch(() => {});
    this.#entries.set(digest, entry);
    const loading = load((bytes) => this.#takeRoom(entry, bytes)).then(async (adapter) => {
      invariant(packedBytes(adapter) <= entry.bytes, "an adapter has taken room for its numbers");
      await this.#options.makeReady(adapter);
      return adapter;
    });
    entry.ready = loading.then(
      (adapter) => {
        entry.adapter = adapter;
        entry.cost = (this.#options.nowMs() - startMs + 1) / Math.max(1, entry.bytes);
        this.#options.onLoaded(adapter);
        // Those who wait have it; without any it may have become unwanted meanwhile.
        this.#removeIfUnwanted(digest, entry);
        this.#admitWaiting();
        return adapter;
      },
      (error: unknown) => {
        this.#forget(digest, entry);
        this.#admitWaiting();
        throw error;
      },
    );
    entry.ready.catch(() => {});
    return entry;
  }

  async #takeRoom(entry: Entry, bytes: number): Promise<void> {
    const { bytesMax, roomWaitMsMax, nowMs } = this.#options;
    const most = bytesMax - this.pinnedBytes;
    if (bytes > most) throw tooLarge({ bytes, most, bytesMax });
    if (this.#waiting.length === 0 && this.#admit(entry, bytes)) return;
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        entry,
        bytes,
        sinceMs: nowMs(),
        admit: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        reject(noRoom());
        this.#admitWaiting();
      }, roomWaitMsMax);
      timer.unref();
      this.#waiting.push(waiting);
      this.#admitWaiting();
    });
  }

  /** Lets in who fits. For a moment small ones may pass a large one that waits, and then nobody does. */
  #admitWaiting(): void {
    const nowMs = this.#options.nowMs();
    for (const waiting of [...this.#waiting]) {
      if (this.#admit(waiting.entry, waiting.bytes)) {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        waiting.admit();
      } else if (nowMs - waiting.sinceMs >= passedMsMax) {
        return;
      }
    }
  }

  #admit(entry: Entry, bytes: number): boolean {
    if (this.#spare() < bytes) return false;
    while (this.#options.bytesMax - this.#bytes < bytes) this.#evict();
    entry.bytes = bytes;
    this.#bytes += bytes;
    return true;
  }

  /** Bytes that are free, or would be if all were dropped that may be. */
  #spare(): number {
    let bytes = this.#options.bytesMax - this.#bytes;
    for (const entry of this.#entries.values()) if (isEvictable(entry)) bytes += entry.bytes;
    return bytes;
  }

  #evict(): void {
    let victim: [string, Entry] | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const [digest, entry] of this.#entries) {
      if (!isEvictable(entry) || entry.bytes === 0) continue;
      const worth = worthOf(entry.uses, { clock: this.#clock, cost: entry.cost });
      if (worth < least) [victim, least] = [[digest, entry], worth];
    }
    invariant(victim, "what counts as spare can be dropped");
    this.#remove(...victim, "evicted");
  }

  #release(digest: string, entry: Entry): void {
    entry.users--;
    this.#removeIfUnwanted(digest, entry);
    this.#admitWaiting();
  }

  #removeIfUnwanted(digest: string, entry: Entry): void {
    if (!entry.unwanted || !entry.adapter || entry.users > 0) return;
    if (this.#entries.get(digest) === entry) this.#remove(digest, entry, "unwanted");
  }

  #remove(digest: string, entry: Entry, why: DropReason): void {
    invariant(entry.adapter, "only what is loaded is dropped");
    this.#forget(digest, entry);
    this.#options.onDropped(entry.adapter, why);
  }

  #forget(digest: string, entry: Entry): void {
    this.#entries.delete(digest);
    this.#bytes -= entry.bytes;
    entry.bytes = 0;
  }
}

function isEvictable({ adapter, users, pinned }: Entry): boolean {
  return adapter !== undefined && users === 0 && !pinned;
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const leave = () => reject(cancelled());
    signal.addEventListener("abort", leave);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}

function once(run: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    run();
  };
}

function cancelled(): HubError {
  return new HubError("request_cancelled", "The client closed the request.");
}

function tooLarge(sizes: { bytes: number; most: number; bytesMax: number }): HubError {
  const { bytes, most, bytesMax } = sizes;
  return new HubError(
    "unsupported_adapter",
    `The adapter takes ${bytes} bytes of memory. Of 'adapterHostBytesMax' (${bytesMax}) ${most} are left beside pinned adapters.`,
    { details: sizes },
  );
}

function noRoom(): HubError {
  return new HubError(
    "server_is_overloaded",
    "The adapters in use fill the memory for adapters ('adapterHostBytesMax').",
    { retryAfterMs: 1000 },
  );
}

/** How long others may pass a load that waits for room. */
const passedMsMax = 1000;
