/** Adapter files kept on disk, so that one which was dropped from memory need not be fetched again. */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import { type AdapterFiles, digestOfFiles } from "./adapter-source.ts";

/** One folder for each digest, the longest unused removed when all together are too large. */
export class AdapterFileCache {
  readonly #folder: string;
  readonly #bytesMax: number;
  /** Bytes by digest; the longest unused first. */
  readonly #kept = new Map<string, number>();

  private constructor(folder: string, bytesMax: number) {
    this.#folder = folder;
    this.#bytesMax = bytesMax;
  }

  /** Takes over what an earlier process left in the folder. */
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
    return cache;
  }

  /** The files, or nothing when they are not here or are no longer what they were. */
  async get(digest: Sha256): Promise<AdapterFiles | undefined> {
    const bytes = this.#kept.get(digest);
    if (bytes === undefined) return undefined;
    const files = await this.#read(digest).catch(() => undefined);
    if (!files || digestOfFiles(files) !== digest) {
      await this.#remove(digest);
      return undefined;
    }
    this.#kept.delete(digest);
    this.#kept.set(digest, bytes);
    return files;
  }

  /** Keeps the files if there is room; a full disk costs a later fetch and nothing else. */
  async put(digest: Sha256, files: AdapterFiles): Promise<void> {
    const bytes = files.config.length + files.weights.length;
    if (this.#kept.has(digest) || bytes > this.#bytesMax) return;
    const temporary = join(this.#folder, `${randomUUID()}.tmp`);
    try {
      await mkdir(temporary);
      await writeFile(join(temporary, configFile), files.config);
      await writeFile(join(temporary, weightsFile), files.weights);
      await rename(temporary, join(this.#folder, digest));
    } catch {
      await rm(temporary, { recursive: true, force: true });
      return;
    }
    this.#kept.set(digest, bytes);
    await this.#makeRoom();
  }

  async #makeRoom(): Promise<void> {
    let total = [...this.#kept.values()].reduce((sum, bytes) => sum + bytes, 0);
    for (const [digest, bytes] of [...this.#kept]) {
      if (total <= this.#bytesMax) return;
      total -= bytes;
      await this.#remove(digest);
    }
  }

  async #read(digest: string): Promise<AdapterFiles> {
    const folder = join(this.#folder, digest);
    const [config, weights] = await Promise.all([
      readFile(join(folder, configFile)),
      readFile(join(folder, weightsFile)),
    ]);
    return { config, weights };
  }

  async #remove(digest: string): Promise<void> {
    this.#kept.delete(digest);
    await rm(join(this.#folder, digest), { recursive: true, force: true });
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

const configFile = "adapter_config.json";
const weightsFile = "adapter_model.safetensors";
