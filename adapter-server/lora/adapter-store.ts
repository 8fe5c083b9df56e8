/** The adapters that can be asked for: by digest, by the name they were loaded under, or mixed. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import type { Engine } from "../engine/engine.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { AdapterCache, type AdapterLease, type TakeRoom } from "./adapter-cache.ts";
import { AdapterLoader, type AdapterLoaderOptions, type LoadTier } from "./adapter-loader.ts";
import { sha256Hex } from "./adapter-source.ts";
import { type NamedAdapter, NamedAdapters } from "./named-adapters.ts";
import { memoryOf } from "./shared-weights.ts";
import { WeightMemory } from "./weight-memory.ts";

export type AdapterStoreOptions = Omit<AdapterLoaderOptions, "rankMax" | "onLoaded"> & {
  engine: Pick<Engine, "facts" | "loadAdapter" | "unloadAdapter" | "pinAdapter">;
  /** Of all adapters in host memory together. */
  hostBytesMax: number;
  /** How long a load waits for others to leave host memory. */
  roomWaitMsMax: number;
  /** Requests that wait for an adapter to be loaded; further ones are refused. */
  acquiringMax: number;
  /** Adapters that have a name. */
  namesMax: number;
};

export type MixComponent = { digest: Sha256; weight: number };

/** What somebody who counts would like to know. */
export type AdapterEvent =
  | { type: "loaded"; digest: string; tier: LoadTier; ms: number }
  | { type: "evicted"; digest: string; tier: "host" | "disk" }
  /** A request has what it asked for. */
  | { type: "acquired"; digest: string; ms: number }
  /** A name stands for other weights than before, or for none. */
  | { type: "named"; name: string; digest: Sha256; before?: Sha256 | undefined; by: string }
  | { type: "unnamed"; name: string; digest: Sha256; by: string };

/** Those that change which weights are where, or what they are called. */
export type AdapterAuditEvent = Exclude<AdapterEvent, { type: "acquired" }>;

/** An adapter's name stands for a digest, and never for weights: new weights under an old name are another adapter. */
export class AdapterStore {
  readonly #options: AdapterStoreOptions;
  readonly #loader: AdapterLoader;
  readonly #cache: AdapterCache;
  readonly #memory: WeightMemory;
  readonly #names: NamedAdapters;
  /** By digest of a mix: what it is made of. */
  readonly #mixes = new Map<string, readonly string[]>();
  readonly #listeners: ((event: AdapterEvent) => void)[] = [];
  #acquiring = 0;

  constructor(options: AdapterStoreOptions) {
    this.#options = options;
    const { engine, hostBytesMax, roomWaitMsMax, nowMs } = options;
    options.files?.onEvicted((digest) => this.#tell({ type: "evicted", digest, tier: "disk" }));
    this.#names = new NamedAdapters({ namesMax: options.namesMax, slots: engine.facts.slots });
    this.#memory = new WeightMemory(hostBytesMax / 4);
    this.#loader = new AdapterLoader(
      {
        ...options,
        rankMax: engine.facts.rankMax,
        onLoaded: (load) => this.#tell({ type: "loaded", ...load }),
      },
      this.#memory,
    );
    this.#cache = new AdapterCache({
      bytesMax: hostBytesMax,
      roomWaitMsMax,
      nowMs,
      makeReady: (adapter) => this.#tellEngine(adapter),
      onLoaded: ({ digest }) => this.#pinIfWanted(digest),
      onDropped: (adapter, why) => {
        const { digest } = adapter;
        void this.#unload(adapter);
        this.#mixes.delete(digest);
        if (why === "evicted") this.#tell({ type: "evicted", digest, tier: "host" });
        else this.#forgetOnDisk(digest);
      },
    });
  }

  /** Adapters that were loaded under a name, in the order of their loading. */
  names(): NamedAdapter[] {
    return this.#names.list();
  }

  named(name: string): NamedAdapter | undefined {
    return this.#names.get(name);
  }

  /** The first name that was given to the adapter and still stands for it. */
  nameOf(digest: string): NamedAdapter | undefined {
    return this.#names.ofDigest(digest);
  }

  stats() {
    const { files } = this.#options;
    return {
      hostBytes: this.#cache.bytes,
      pinnedBytes: this.#cache.pinnedBytes,
      hostDigests: this.#cache.loaded(),
      diskBytes: files?.bytes ?? 0,
      diskDigests: files?.digests() ?? [],
    };
  }

  /** Whether the adapter's weights are in host memory, and its files on this server's disk. */
  residency(digest: string): { host: boolean; disk: boolean } {
    return {
      host: this.#cache.has(digest),
      disk: this.#options.files?.has(digest) ?? false,
    };
  }

  listen(listener: (event: AdapterEvent) => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Keeps the adapter in memory, and known to the engine, until the lease is released.
   * @throws HubError `model_not_found` when neither a loaded name nor the source has it,
   *   `server_is_overloaded` when too many wait for adapters or memory is full of others in use,
   *   `request_cancelled`, and whatever is wrong with its files
   */
  async acquire(digest: Sha256, signal?: AbortSignal): Promise<AdapterLease> {
    return this.#acquire(digest, (takeRoom) => this.#load(digest, takeRoom), signal);
  }

  /**
   * The same for a weighted sum of adapters, which is an adapter of its own with a digest of its own.
   * @throws HubError `adapter_rank_too_large` when the ranks together do not fit a slot
   */
  async acquireMix(
    components: readonly MixComponent[],
    signal?: AbortSignal,
  ): Promise<AdapterLease> {
    const digest = mixDigest(components);
    return this.#acquire(digest, (takeRoom) => this.#mix(components, digest, takeRoom), signal);
  }

  /**
   * Loads a folder's adapter and gives it a name. With `replace`, requests that come from now on have the new
   * weights, those that came before finish on the old ones, and then these are dropped.
   * @throws HubError `adapter_already_loaded` when the name is taken and `replace` is not set, `invalid_value` when
   *   more would be pinned than fits
   */
  loadNamed(options: {
    name: string;
    path: string;
    replace: boolean;
    /** Who wants it, for the audit log. */
    by: string;
    /** Never to be evicted; absent keeps what the name had. */
    pinned?: boolean | undefined;
  }): Promise<NamedAdapter> {
    const { name, path, replace, by } = options;
    return this.#names.inTurn(name, async () => {
      const before = this.#names.get(name);
      if (before && !replace) {
        throw new HubError("adapter_already_loaded", `The adapter '${name}' is already loaded.`);
      }
      const found = await this.#loader.readFolder(path);
      const { digest } = found;
      const named = { name, digest, path, pinned: options.pinned ?? before?.pinned ?? false };
      this.#names.expectRoomFor(named);
      const startMs = this.#options.nowMs();
      let { files } = found;
      let ms: number | undefined;
      const lease = await this.#cache.acquire(digest, async (takeRoom) => {
        const packed = await this.#loader.pack(found, takeRoom);
        files = packed.files;
        ms = this.#options.nowMs() - startMs;
        return packed.adapter;
      });
      try {
        // The folder may be gone by the time when the adapter has to be loaded again.
        await this.#options.files?.put(digest, files);
        this.#names.set(named);
        this.#tell({ type: "named", name, digest, before: before?.digest, by });
        // Told now, so that it is counted under the name.
        if (ms !== undefined) this.#tell({ type: "loaded", digest, tier: "folder", ms });
        this.#pinIfWanted(digest);
        if (before && before.digest !== digest) this.#dropUnlessWanted(before.digest);
        return named;
      } finally {
        this.#loader.letGo(files);
        lease.release();
      }
    });
  }

  /** Nothing when there is no such name. Requests that already use the adapter are not disturbed. */
  unloadNamed(name: string, { by }: { by: string }): Promise<NamedAdapter | undefined> {
    return this.#names.inTurn(name, async () => {
      const named = this.#names.get(name);
      if (!named) return undefined;
      this.#names.delete(name);
      this.#tell({ type: "unnamed", name, digest: named.digest, by });
      this.#dropUnlessWanted(named.digest);
      return named;
    });
  }

  /**
   * Keeps an adapter in memory from its first load on, and loads it now.
   * @throws HubError `invalid_value` when more would be pinned than fits, and what loading it throws
   */
  async pinDigest(digest: Sha256): Promise<void> {
    this.#names.pinDigest(digest);
    (await this.acquire(digest)).release();
  }

  async #acquire(
    digest: Sha256,
    load: (takeRoom: TakeRoom) => Promise<PackedAdapter>,
    signal: AbortSignal | undefined,
  ): Promise<AdapterLease> {
    const { acquiringMax, nowMs } = this.#options;
    if (this.#acquiring >= acquiringMax) throw tooManyWait();
    const startMs = nowMs();
    this.#acquiring++;
    try {
      const lease = await this.#cache.acquire(digest, load, signal);
      this.#tell({ type: "acquired", digest, ms: nowMs() - startMs });
      return lease;
    } finally {
      this.#acquiring--;
    }
  }

  #load(digest: Sha256, takeRoom: TakeRoom): Promise<PackedAdapter> {
    return this.#loader.load(digest, this.nameOf(digest)?.path, takeRoom);
  }

  async #mix(
    components: readonly MixComponent[],
    digest: Sha256,
    takeRoom: TakeRoom,
  ): Promise<PackedAdapter> {
    const sizes = new Map<string, number>();
    const expectRoom = () => this.#expectRoomFor(components, sizes);
    const acquire = (part: Sha256) =>
      this.#cache.acquire(part, (partRoom) =>
        this.#load(part, (bytes) => {
          sizes.set(part, bytes);
          expectRoom();
          return partRoom(bytes);
        }),
      );
    this.#mixes.set(
      digest,
      components.map((part) => part.digest),
    );
    const settled = await Promise.allSettled(components.map((part) => acquire(part.digest)));
    const leases = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    try {
      const failed = settled.find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
      expectRoom();
      const parts = leases.map(({ adapter }, index) => ({
        adapter,
        weight: components[index]?.weight ?? 0,
      }));
      return await this.#loader.mix(parts, digest, takeRoom);
    } catch (error) {
      this.#mixes.delete(digest);
      throw error;
    } finally {
      for (const lease of leases) lease.release();
    }
  }

  /**
   * A mix holds its parts while it waits for room of its own, and others wait behind it: one that can never have that is
   * told so at once.
   * @param sizes of parts that are being loaded, as far as they are known
   * @throws HubError `unsupported_adapter`
   */
  #expectRoomFor(components: readonly MixComponent[], sizes: ReadonlyMap<string, number>): void {
    const bytesOf = (digest: string) => sizes.get(digest) ?? this.#cache.bytesOf(digest);
    const parts = new Set(components.map(({ digest }) => digest));
    const digests = [...parts, ...components.map(({ digest }) => digest)];
    const bytes = digests.reduce((sum, digest) => sum + bytesOf(digest), 0);
    const most = this.#cache.roomFor(parts);
    if (bytes <= most) return;
    const { hostBytesMax } = this.#options;
    throw new HubError(
      "unsupported_adapter",
      `The mix and its parts take ${bytes} bytes of memory and more. Of 'adapterHostBytesMax' (${hostBytesMax}) ${most} are left beside pinned adapters.`,
      { param: "adapters", details: { bytes, most, bytesMax: hostBytesMax } },
    );
  }

  async #tellEngine(adapter: PackedAdapter): Promise<void> {
    try {
      await this.#options.engine.loadAdapter(adapter);
    } catch (error) {
      this.#giveMemoryOf(adapter);
      throw error;
    }
  }

  /** The weights' memory is free when the engine, too, reads it no more. */
  async #unload(adapter: PackedAdapter): Promise<void> {
    await this.#options.engine.unloadAdapter(adapter.digest);
    this.#giveMemoryOf(adapter);
  }

  #giveMemoryOf(adapter: PackedAdapter): void {
    const memory = memoryOf(adapter);
    if (memory) this.#memory.give(memory);
  }

  /** What nobody can ask for by name any more leaves memory and disk, and so do mixes with it. */
  #dropUnlessWanted(digest: string): void {
    this.#pinIfWanted(digest);
    if (this.#names.isWanted(digest)) return;
    if (!this.#cache.drop(digest)) this.#forgetOnDisk(digest);
    for (const [mix, parts] of this.#mixes) if (parts.includes(digest)) this.#cache.drop(mix);
  }

  #forgetOnDisk(digest: string): void {
    if (!this.#names.isWanted(digest)) void this.#options.files?.remove(digest);
  }

  #pinIfWanted(digest: string): void {
    const pinned = this.#names.isPinned(digest);
    this.#cache.pin(digest, pinned);
    this.#options.engine.pinAdapter(digest, pinned);
  }

  #tell(event: AdapterEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

/** The identity of a mix: of its canonical text, in which the order of the parts does not matter. */
export function mixDigest(components: readonly MixComponent[]): Sha256 {
  const lines = components.map(({ digest, weight }) => `${digest} ${weight}`).sort();
  return sha256.parse(sha256Hex(`switchyard-mix-v1\n${lines.join("\n")}\n`));
}

function tooManyWait(): HubError {
  return new HubError("server_is_overloaded", "Too many requests wait for adapters to be loaded.", {
    retryAfterMs: 1000,
  });
}
