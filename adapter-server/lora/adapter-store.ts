/** The adapters that can be asked for: by digest, by the name they were loaded under, or mixed. */
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import type { Engine } from "../engine/engine.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { AdapterCache, type AdapterLease } from "./adapter-cache.ts";
import type { AdapterFileCache } from "./adapter-files.ts";
import type { AdapterFiles, AdapterSource } from "./adapter-source.ts";
import { digestOfFiles, noSuchAdapter, readAdapterFolder, sha256Hex } from "./adapter-source.ts";
import type { Packer } from "./packer.ts";

export type AdapterStoreOptions = {
  shape: BaseShape;
  packer: Pick<Packer, "pack">;
  engine: Pick<Engine, "facts" | "loadAdapter" | "unloadAdapter">;
  /** Knows adapters by digest; absent where only loaded names are served. */
  source?: AdapterSource | undefined;
  /** Between the source and memory. */
  files?: AdapterFileCache | undefined;
  hostBytesMax: number;
  /** Bytes of one adapter's file. */
  fileBytesMax: number;
  /** Requests that wait for an adapter to be loaded; further ones are refused. */
  acquiringMax: number;
};

export type NamedAdapter = { name: string; digest: Sha256; path: string };
export type MixComponent = { digest: Sha256; weight: number };

/** An adapter's name stands for a digest, and never for weights: new weights under an old name are another adapter. */
export class AdapterStore {
  readonly #options: AdapterStoreOptions;
  readonly #cache: AdapterCache;
  readonly #names = new Map<string, NamedAdapter>();
  /** One load or unload of a name at a time. */
  readonly #nameTurns = new Map<string, Promise<unknown>>();
  #acquiring = 0;

  constructor(options: AdapterStoreOptions) {
    this.#options = options;
    this.#cache = new AdapterCache({
      bytesMax: options.hostBytesMax,
      onLoaded: (adapter) => options.engine.loadAdapter(adapter),
      onDropped: (digest) => options.engine.unloadAdapter(digest),
    });
  }

  /** Adapters that were loaded under a name, in the order of their loading. */
  names(): NamedAdapter[] {
    return [...this.#names.values()];
  }

  named(name: string): NamedAdapter | undefined {
    return this.#names.get(name);
  }

  stats(): { hostBytes: number; hostAdapters: number } {
    return { hostBytes: this.#cache.bytes, hostAdapters: this.#cache.size };
  }

  /**
   * Keeps the adapter in memory, and known to the engine, until the lease is released.
   * @throws HubError `model_not_found` when neither a loaded name nor the source has it,
   *   `server_is_overloaded` when too many wait for adapters, and whatever is wrong with its files
   */
  async acquire(digest: Sha256): Promise<AdapterLease> {
    if (this.#acquiring >= this.#options.acquiringMax) {
      throw new HubError(
        "server_is_overloaded",
        "Too many requests wait for adapters to be loaded.",
        {
          retryAfterMs: 1000,
        },
      );
    }
    this.#acquiring++;
    try {
      return await this.#cache.acquire(digest, () => this.#load(digest));
    } finally {
      this.#acquiring--;
    }
  }

  /**
   * The same for a weighted sum of adapters, which is an adapter of its own with a digest of its own.
   * @throws HubError `adapter_rank_too_large` when the ranks together do not fit a slot
   */
  async acquireMix(components: readonly MixComponent[]): Promise<AdapterLease> {
    const digest = mixDigest(components);
    return this.#cache.acquire(digest, async () => {
      const settled = await Promise.allSettled(components.map((part) => this.acquire(part.digest)));
      const leases = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      try {
        const failed = settled.find((one) => one.status === "rejected");
        if (failed) throw failed.reason;
        const parts = leases.map(({ adapter }, index) => ({
          adapter,
          weight: components[index]?.weight ?? 0,
        }));
        const { rankMax } = this.#options.engine.facts;
        return await this.#options.packer.pack({ type: "mix", parts, digest, rankMax });
      } finally {
        for (const lease of leases) lease.release();
      }
    });
  }

  /**
   * Loads a folder's adapter and gives it a name.
   * @throws HubError `adapter_already_loaded` when the name is taken and `replace` is not set
   */
  loadNamed(options: { name: string; path: string; replace: boolean }): Promise<NamedAdapter> {
    const { name, path, replace } = options;
    return this.#inTurn(name, async () => {
      if (this.#names.has(name) && !replace) {
        throw new HubError("adapter_already_loaded", `The adapter '${name}' is already loaded.`);
      }
      const files = await readAdapterFolder(path, this.#options.fileBytesMax);
      const digest = digestOfFiles(files);
      const lease = await this.#cache.acquire(digest, async () => this.#pack(files, digest));
      try {
        // The folder may be gone by the time when the adapter has to be loaded again.
        await this.#options.files?.put(digest, files);
        const before = this.#names.get(name);
        const named = { name, digest, path };
        this.#names.set(name, named);
        if (before) this.#dropUnlessNamed(before.digest);
        return named;
      } finally {
        lease.release();
      }
    });
  }

  /** False when there is no such name. Requests that already use the adapter are not disturbed. */
  unloadNamed(name: string): Promise<boolean> {
    return this.#inTurn(name, async () => {
      const named = this.#names.get(name);
      if (!named) return false;
      this.#names.delete(name);
      this.#dropUnlessNamed(named.digest);
      return true;
    });
  }

  #dropUnlessNamed(digest: string): void {
    if (!this.#nameOf(digest)) this.#cache.drop(digest);
  }

  #nameOf(digest: string): NamedAdapter | undefined {
    return this.names().find((named) => named.digest === digest);
  }

  async #load(digest: Sha256): Promise<PackedAdapter> {
    const kept = await this.#options.files?.get(digest);
    if (kept) return this.#pack(kept, digest);
    const files = await this.#fetch(digest);
    if (digestOfFiles(files) !== digest) {
      // Files that are not the ones asked for are refused, wherever they come from.
      throw new HubError(
        "adapter_not_applied",
        `The files of adapter sha256-${digest} have changed; load the adapter again.`,
      );
    }
    const packed = await this.#pack(files, digest);
    await this.#options.files?.put(digest, files);
    return packed;
  }

  async #fetch(digest: Sha256): Promise<AdapterFiles> {
    const named = this.#nameOf(digest);
    if (named) return readAdapterFolder(named.path, this.#options.fileBytesMax);
    if (!this.#options.source) throw noSuchAdapter();
    return this.#options.source.fetchFiles(digest);
  }

  #pack(files: AdapterFiles, digest: Sha256): Promise<PackedAdapter> {
    const { shape, engine, packer } = this.#options;
    const base = { shape, rankMax: engine.facts.rankMax };
    return packer.pack({ type: "pack", files, digest, base });
  }

  async #inTurn<T>(name: string, run: () => Promise<T>): Promise<T> {
    const before = this.#nameTurns.get(name) ?? Promise.resolve();
    const turn = before.then(run, run);
    this.#nameTurns.set(name, turn);
    try {
      return await turn;
    } finally {
      if (this.#nameTurns.get(name) === turn) this.#nameTurns.delete(name);
    }
  }
}

/** The identity of a mix: of its canonical text, in which the order of the parts does not matter. */
export function mixDigest(components: readonly MixComponent[]): Sha256 {
  const lines = components.map(({ digest, weight }) => `${digest} ${weight}`).sort();
  return sha256.parse(sha256Hex(`switchyard-mix-v1\n${lines.join("\n")}\n`));
}
