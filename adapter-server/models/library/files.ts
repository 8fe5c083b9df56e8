/** Small things done to files, each so that a kill in the middle leaves nothing that looks finished. */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { access, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

export type FileFacts = { name: string; sizeBytes: number; sha256: string };

/** Writes JSON by way of a file beside it. */
export async function writeJsonAtomically(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await writeFile(temporary, `${JSON.stringify(value, null, 2)}\n`, { flush: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** At once, so that a kill in the middle leaves nothing that looks whole. */
export async function removeFolder(folder: string): Promise<void> {
  // Unfinished removals have the ending that an import's own leftovers have, and are cleared with them.
  const doomed = `${folder}.${randomUUID()}.tmp`;
  await rename(folder, doomed);
  await rm(doomed, { recursive: true, force: true });
}

/** A JSON file by its schema; undefined when it is missing, or not what we once wrote. */
export async function readJsonFile<S extends z.ZodType>(
  path: string,
  schema: S,
): Promise<z.infer<S> | undefined> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/**
 * SHA-256 of a file, and the SHA-1 that git knows its content by.
 * @param onBytes told how many bytes each read brought
 */
export async function hashFile(
  path: string,
  onBytes?: (count: number) => void,
): Promise<{ sizeBytes: number; sha256: string; gitSha1: string }> {
  const { size } = await stat(path);
  const sha256 = createHash("sha256");
  const gitSha1 = gitBlobHash(size);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    sha256.update(chunk);
    gitSha1.update(chunk);
    onBytes?.(chunk.length);
  }
  return { sizeBytes: size, sha256: sha256.digest("hex"), gitSha1: gitSha1.digest("hex") };
}

/** Git hashes a file's length before its bytes. */
export function gitBlobHash(sizeBytes: number): ReturnType<typeof createHash> {
  return createHash("sha1").update(`blob ${sizeBytes}\0`);
}

/** Bytes of all files of a folder, those of its folders included; 0 when there is none. */
export async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

export const sha256Text = z.string().regex(/^[0-9a-f]{64}$/);
export const fileFacts = z.object({
  name: z.string(),
  sizeBytes: z.number(),
  sha256: sha256Text,
});
