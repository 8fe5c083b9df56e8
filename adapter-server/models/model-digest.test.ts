/** What of a checkpoint is read again to know it. */
import { mkdtemp, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type FileDigests, modelDigest } from "./model-digest.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "model-digest-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true, force: true });
});

async function twoFiles(): Promise<Map<string, string>> {
  const names = ["config.json", "model.safetensors"];
  for (const name of names) await writeFile(join(folder, name), name);
  return new Map(names.map((name) => [name, join(folder, name)]));
}

const later = () => vi.spyOn(Date, "now").mockReturnValue(Date.now() + 60_000);

test("files that are known are not read again, and changed ones are", async () => {
  const files = await twoFiles();
  later();
  const known: FileDigests = new Map();
  const digest = await modelDigest(files, known);
  expect(known.size).toBe(2);
  expect(await modelDigest(files)).toBe(digest);
  // Who is told something else believes it, so nothing was read.
  const [[stamp] = []] = known;
  const told = new Map(known).set(stamp!, "0".repeat(64));
  expect(await modelDigest(files, told)).not.toBe(digest);

  const path = join(folder, "model.safetensors");
  const { atime, mtime } = await stat(path);
  await writeFile(path, "Model.safetensors");
  await utimes(path, atime, mtime);
  const changed = await modelDigest(files, known);
  expect(changed).not.toBe(digest);
  expect(await modelDigest(files)).toBe(changed);
});

test("what was written a moment ago is read each time: the next write might leave no trace", async () => {
  const files = await twoFiles();
  const known: FileDigests = new Map();
  await modelDigest(files, known);
  expect(known.size).toBe(0);
});
