/** Brings an adapter's weights into memory, from the nearest place that has its files. */
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Sha256 } from "../../sdk/protocol/ids.ts";
import { sha256 } from "../../sdk/protocol/ids.ts";
import type { PackedAdapter } from "../engine/types.ts";
import type { BaseCheckpoint } from "../models/base-matrices.ts";
import type { TakeRoom } from "./adapter-cache.ts";
import type { AdapterFileCache } from "./adapter-files.ts";
import type { AdapterFiles, AdapterSource } from "./adapter-source.ts";
import { noSuchAdapter, readAdapterFolder } from "./adapter-source.ts";
import { FileMemory } from "./file-memory.ts";
import { type MixPart, rankOfMix } from "./pack.ts";
import type { Identity, Packed, Packer } from "./packer.ts";
import { packedBytes } from "./shared-weights.ts";
import { Turns } from "./turns.ts";
import type { WeightMemory } from "./weight-memory.ts";

/** Where files come from: the copy on disk, the folder that was named, or whoever knows adapters by digest. */
export type LoadTier = "disk" | "folder" | "registry";

/** Files, and what they are. */
export type IdentifiedFiles = Omit<Identity, "digest"> & { files: AdapterFiles; digest: Sha256 };

export type AdapterLoaderOptions = {
  shape: BaseShape;
  rankMax: number;
  /** The base's own weights; absent where no adapters are served that depend on them. */
  checkpoint?: BaseCheckpoint | undefined;
  packer: Pick<Packer, "identify" | "pack" | "mix">;
  /** Knows adapters by digest; absent where only loaded names are served. */
  source?: AdapterSource | undefined;
  /** Between the source and memory. */
  files?: AdapterFileCache | undefined;
  /** Bytes of one adapter's file. */
  fileBytesMax: number;
  /** Adapters that are read from one kind of place at one time. */
  fetchesMax: number;
  /** How long files may take to come; a folder on a network that is gone never answers. */
  fetchMsMax: number;
  nowMs: () => number;
  onLoaded: (load: { digest: Sha256; tier: LoadTier; ms: number }) => void;
};

export class AdapterLoader {
  readonly #options: AdapterLoaderOptions;
  readonly #memory: WeightMemory;
  readonly #fileMemory = new FileMemory();
  /** One hung place must not hold up the others. */
  readonly #turns: Record<LoadTier, Turns>;

  constructor(options: AdapterLoaderOptions, memory: WeightMemory) {
    this.#options = options;
    this.#memory = memory;
    const turns = () => new Turns(options.fetchesMax);
    this.#turns = { disk: turns(), folder: turns(), registry: turns() };
  }

  /**
   * @param folder where the adapter lay when it was given a name, if it has one
   * @throws HubError `model_not_found` when nobody has it, `adapter_not_applied` when what is there is another one by
   *   now, `upstream_timeout`, and whatever is wrong with its files
   */
  async load(
    digest: Sha256,
    folder: string | undefined,
    takeRoom: TakeRoom,
  ): Promise<PackedAdapter> {
    const { files: disk, nowMs, onLoaded } = this.#options;
    const startMs = nowMs();
    const found = (await this.#fromDisk(digest)) ?? (await this.#fetch(digest, folder));
    const { adapter, files } = await this.pack(found, takeRoom);
    onLoaded({ digest, tier: found.tier, ms: nowMs() - startMs });
    // Nobody waits for a copy that only spares a later fetch.
    const kept = found.tier === "disk" ? undefined : disk?.put(digest, files);
    void Promise.resolve(kept).finally(() => this.letGo(files));
    return adapter;
  }

  /** Nobody needs these files any more. */
  letGo({ weights }: AdapterFiles): void {
    this.#fileMemory.give(weights);
  }

  /** @throws HubError `not_found` when the folder has no adapter */
  async readFolder(path: string): Promise<IdentifiedFiles> {
    const { packer, fileBytesMax } = this.#options;
    const read = await this.#within("folder", () =>
      readAdapterFolder(path, fileBytesMax, this.#fileMemory),
    );
    const { digest, ...found } = await packer.identify(read);
    return { ...found, digest: sha256.parse(digest) };
  }

  /**
   * Takes the files' memory and gives it back.
   * @throws HubError what is wrong with the files
   */
  async pack(found: IdentifiedFiles, takeRoom: TakeRoom): Promise<Packed> {
    const { files, digest, memoryBytes, needsBase } = found;
    const { packer, shape, rankMax } = this.#options;
    const checkpoint = needsBase ? this.#options.checkpoint : undefined;
    await takeRoom(memoryBytes);
    return this.#filling(memoryBytes, (memory) =>
      packer.pack({ type: "pack", files, digest, base: { shape, rankMax }, checkpoint, memory }),
    );
  }

  /** @throws HubError `adapter_rank_too_large` */
  async mix(parts: MixPart[], digest: Sha256, takeRoom: TakeRoom): Promise<PackedAdapter> {
    const { packer, rankMax } = this.#options;
    // Before it waits for room that it has no use for.
    rankOfMix(parts, rankMax);
    const memoryBytes = parts.reduce((sum, { adapter }) => sum + packedBytes(adapter), 0);
    await takeRoom(memoryBytes);
    return this.#filling(memoryBytes, (memory) =>
      packer.mix({ type: "mix", parts, digest, rankMax, memory }),
    );
  }

  /** When the packer has answered, or its thread is gone, nobody writes to the memory any more. */
  async #filling<T>(bytes: number, fill: (memory: SharedArrayBuffer) => Promise<T>): Promise<T> {
    const memory = this.#memory.take(bytes);
    try {
      return await fill(memory);
    } catch (error) {
      this.#memory.give(memory);
      throw error;
    }
  }

  /** A copy that is damaged is as good as none. */
  async #fromDisk(digest: Sha256): Promise<(IdentifiedFiles & { tier: "disk" }) | undefined> {
    const { files: disk, packer } = this.#options;
    const read = await this.#within("disk", async () => disk?.get(digest, this.#fileMemory)).catch(
      () => undefined,
    );
    if (!read) return undefined;
    const found = await packer.identify(read, digest);
    if (found.digest === digest) return { ...found, digest, tier: "disk" };
    await disk?.remove(digest);
    return undefined;
  }

  async #fetch(
    digest: Sha256,
    folder: string | undefined,
  ): Promise<IdentifiedFiles & { tier: LoadTier }> {
    const { source, packer, fileBytesMax } = this.#options;
    const tier = folder === undefined ? "registry" : "folder";
    const read = await this.#within(tier, async () => {
      if (folder !== undefined) {
        return readAdapterFolder(folder, fileBytesMax, this.#fileMemory).catch((cause: unknown) => {
          throw changed(digest, cause);
        });
      }
      if (!source) throw noSuchAdapter();
      return source.fetchFiles(digest);
    });
    const found = await packer.identify(read, digest);
    // Files that are not the ones asked for are refused, wherever they come from.
    if (found.digest !== digest) throw changed(digest);
    return { ...found, digest, tier };
  }

  #within<T>(tier: LoadTier, fetch: () => Promise<T>): Promise<T> {
    const { fetchMsMax } = this.#options;
    const late = () =>
      new HubError("upstream_timeout", `The adapter's files did not come within ${fetchMsMax} ms.`);
    return this.#turns[tier].run(fetch, { msMax: fetchMsMax, late });
  }
}

function changed(digest: Sha256, cause?: unknown): HubError {
  return new HubError(
    "adapter_not_applied",
    `The files of adapter sha256-${digest} are gone or have changed; load the adapter again.`,
    { cause },
  );
}
