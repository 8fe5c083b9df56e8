/** Files on disk under the hash of their content: written whole or not at all, checked when read. */
import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";

export class ArtifactStore {
  readonly #folder: string;

  /** @param dataDir files go to `artifacts/sha256/ab/abcdef…` below it */
  constructor(dataDir: string) {
    this.#folder = join(dataDir, "artifacts", "sha256");
  }

  /**
   * Keeps the bytes. A file that is there and whole is left alone; one that was damaged is replaced.
   * @param digest what `sha256Of` says of the bytes
   * @throws HubError `storage_full`
   */
  async put(digest: Sha256, bytes: Uint8Array): Promise<void> {
    if ((await this.#readWhole(digest)) !== undefined) return;
    try {
      await writeWhole(this.#path(digest), bytes);
    } catch (error) {
      if (isStorageFull(error)) {
        throw new HubError("storage_full", "The disk that keeps artifacts is full.", {
          cause: error,
          retryAfterMs: 60_000,
        });
      }
      throw error;
    }
  }

  /**
   * @param digest anything but 64 hex digits is not found, so that no text becomes a path
   * @throws HubError `not_found`, also for a file that no longer has its hash
   */
  async read(digest: string): Promise<Buffer> {
    const parsed = sha256.safeParse(digest);
    const bytes = parsed.success ? await this.#readWhole(parsed.data) : undefined;
    if (bytes === undefined) {
      throw new HubError("not_found", `No whole artifact '${digest.slice(0, 80)}' is stored here.`);
    }
    return bytes;
  }

  async #readWhole(digest: Sha256): Promise<Buffer | undefined> {
    try {
      const bytes = await readFile(this.#path(digest));
      return (await sha256Of(bytes)) === digest ? bytes : undefined;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  #path(digest: Sha256): string {
    return join(this.#folder, digest.slice(0, 2), digest);
  }
}

/** Computed on another thread, because a gateway in this process must not wait for a gigabyte. */
export async function sha256Of(bytes: Uint8Array): Promise<Sha256> {
  const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return sha256.parse(Buffer.from(digest).toString("hex"));
}

/** Beside the target, flushed, renamed, and the folder flushed: a crash leaves a whole file or none. */
async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  const directory = await open(folder);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function isStorageFull(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException).code ?? "");
}
