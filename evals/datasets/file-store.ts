/** Files addressed by the SHA-256 of their bytes: written once and whole, checked whenever they are read. */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";

export type FileStore = {
  /** Keeps the bytes and answers their digest. Keeping the same bytes again changes nothing. */
  keep(bytes: Uint8Array): Promise<Sha256>;
  /** @throws HubError `internal_error` when the file is missing or its bytes have changed */
  read(digest: string): Promise<Uint8Array>;
};

/** @param folder holds `sha256/ab/abcdef…`; made when the first file comes */
export function openFileStore(folder: string): FileStore {
  const pathOf = (digest: string) => join(folder, "sha256", digest.slice(0, 2), digest);
  return {
    async keep(bytes) {
      const digest = digestOf(bytes);
      await writeWhole(pathOf(digest), bytes);
      return digest;
    },
    async read(digest) {
      let bytes: Uint8Array;
      try {
        bytes = await readFile(pathOf(digest));
      } catch (cause) {
        throw new HubError("internal_error", `The stored file sha256:${digest} cannot be read.`, {
          cause,
        });
      }
      if (digestOf(bytes) === digest) return bytes;
      throw new HubError(
        "internal_error",
        `The stored file sha256:${digest} has changed on disk. Push the dataset again to mend it.`,
      );
    },
  };
}

/** A reader sees the old file or the new one, and after a power cut never half of it. */
async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
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
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new HubError("storage_full", "The disk is full; the dataset was not kept.", {
      cause: error,
    });
  }
}

function digestOf(bytes: Uint8Array): Sha256 {
  return sha256.parse(createHash("sha256").update(bytes).digest("hex"));
}
