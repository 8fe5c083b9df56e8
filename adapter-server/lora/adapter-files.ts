/** Adapter files kept on disk, so that one which was dropped from memory need not be fetched again. */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import { type AdapterFiles, readAdapterFolder } from "./adapter-source.ts";
import type { FileMemory } from "./file-memory.ts";

/** One folder for each digest, the longest unused removed when all together are too large. */
export class AdapterFileCache {
  readonly #folder: string;
  readonly #bytesMax: number;
  readonly #listeners: ((digest: string) => void)[] = [];
  /** Bytes by digest; the longest unused first. */
  readonly #kept = new Map<string, number>();
  /** Of what is kept, and of what is being written. */
  #bytes = 0;
  /** Digests that are being written. */
  readonly #coming = new Set<string>();

  private constructor(folder: string, bytesMax: number) {
    this.#folder = folder;
    this.#bytesMax = bytesMax;
  }

  /** Takes over what an earlier process left in the folder, as far as it fits. */
  static async open(folder: string, bytesMax: number): Promise<AdapterFileCache> {
    await mkdir(folder, { recursive: true });
    const cache = new AdapterFileCache(folder, bytesMax);
    const found: { digest: string; bytes: number; modified: number }[] = [];
    for (const name of await readdir(folder)) {
      if (sha256.safeParse(name).success) found.push(await measure(folder, name));
      else await rm(join(folder, name), { recursive: true, force: true });
    }
    found.sort((a, b) => a.modified - b.modified);
    for (const { digest, bytes } of found) cache.#kept.set(digest, bytes);
    cache.#bytes = found.reduce((sum, { bytes }) => sum + bytes, 0);
    await cache.#makeRoom();
    return cache;
  }

  /** Tells which adapters made way for others. */
  onEvicted(listener: (digest: string) => void): void {
    this.#listeners.push(listener);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The longest unused first. */
  digests(): string[] {
    return [...this.#kept.keys()];
  }

  has(digest: string): boolean {
    return this.#kept.has(digest);
  }

  /** What lies there under the digest; whether it is what it was, whoever reads it has to see. */
  async get(digest: Sha256, memory?: FileMemory): Promise<AdapterFiles | undefined> {
    const bytes = this.#kept.get(digest);
    if (bytes === undefined) return undefined;
    this.#kept.delete(digest);
    this.#kept.set(digest, bytes);
    const files = await readAdapterFolder(join(this.#folder, digest), bytes, memory).catch(
      () => undefined,
    );
    if (!files) await this.remove(digest);
    return files;
  }

  /** Keeps the files if there is room; a full disk costs a later fetch and nothing else. */
  async put(digest: Sha256, files: AdapterFiles): Promise<void> {
    const bytes = files.config.length + files.weights.length;
    if (this.#kept.has(digest) || this.#coming.has(digest)) return;
    if (bytes > this.#bytesMax) return;
    this.#coming.add(digest);
    this.#bytes += bytes;
    const temporary = join(this.#folder, `${randomUUID()}.tmp`);
    try {
      await this.#makeRoom();
      // Others that are being written have what is left.
      if (this.#bytes > this.#bytesMax) throw new Error("no room");
      await mkdir(temporary);
      await writeFile(join(temporary, "adapter_config.json"), files.config);
      await writeFile(join(temporary, "adapter_model.safetensors"), files.weights);
      await rename(temporary, join(this.#folder, digest));
      this.#kept.set(digest, bytes);
    } catch {
      this.#bytes -= bytes;
      await rm(temporary, { recursive: true, force: true });
    } finally {
      this.#coming.delete(digest);
    }
  }

  async remove(digest: string): Promise<void> {
    const bytes = this.#kept.get(digest);
    if (bytes === undefined) return;
    this.#kept.delete(digest);
    this.#bytes -= bytes;
    // Out of the way at once, so that the same adapter can be kept anew while this one is removed.
    const gone = join(this.#folder, `${randomUUID()}.tmp`);
    await rename(join(this.#folder, digest), gone).catch(() => {});
    await rm(gone, { recursive: true, force: true });
  }

  async #makeRoom(): Promise<void> {
    for (const digest of [...this.#kept.keys()]) {
      if (this.#bytes <= this.#bytesMax) return;
      for (const listener of this.#listeners) listener(digest);
      await this.remove(digest);
    }
  }
}

async function measure(folder: string, digest: string) {
  let bytes = 0;
  let modified = 0;
  for (const name of await readdir(join(folder, digest))) {
    const info = await stat(join(folder, digest, name));
    bytes += info.size;
    modified = Math.max(modified, info.mtimeMs);
  }
  return { digest, bytes, modified };
}
