/** One hash over the files that decide a model's numbers and its tokens. */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";

/**
 * SHA-256 of files, by what tells that a file is still the one that was read: its number and size, and when it was last
 * written to or exchanged, which nobody can set back.
 */
export type FileDigests = Map<string, string>;

/**
 * @param files paths by the name under which each counts, wherever it lies
 * @param known files that are not read again; those that were read are added
 */
export async function modelDigest(
  files: ReadonlyMap<string, string>,
  known: FileDigests = new Map(),
): Promise<string> {
  const sorted = [...files].sort(([one], [other]) => (one < other ? -1 : 1));
  const lines = await Promise.all(
    sorted.map(async ([name, path]) => `${await fileSha256(path, known)} ${name}\n`),
  );
  return createHash("sha256")
    .update(`switchyard-base-v1\n${lines.join("")}`)
    .digest("hex");
}

async function fileSha256(path: string, known: FileDigests): Promise<string> {
  const file = await open(path, "r");
  try {
    const before = await stampOf(file);
    const digest = known.get(before.stamp);
    if (digest !== undefined) return digest;
    const startMs = Date.now();
    const hash = createHash("sha256");
    for await (const chunk of file.createReadStream({ ...whole, highWaterMark: 1 << 20 })) {
      hash.update(chunk);
    }
    const read = hash.digest("hex");
    const after = await stampOf(file);
    // A file system's clock may be coarse: who writes right after us must leave another time than the one we saw.
    const isSettled = after.changedMs < startMs - settledMs;
    if (before.stamp === after.stamp && isSettled) known.set(after.stamp, read);
    return read;
  } finally {
    await file.close();
  }
}

async function stampOf(file: FileHandle): Promise<{ stamp: string; changedMs: number }> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
  const stamp = [dev, ino, size, mtimeNs, ctimeNs].join(":");
  return { stamp, changedMs: Number(ctimeNs / 1_000_000n) };
}

/** The handle is ours to close. */
const whole = { start: 0, autoClose: false } as const;
const settledMs = 2000;
