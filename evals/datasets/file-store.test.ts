import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openFileStore } from "./file-store.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-files-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("a file is kept once under its digest and read back", async () => {
  const store = openFileStore(folder);
  const bytes = new TextEncoder().encode("abc");
  // FIPS 180-2, appendix B.1.
  const digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  expect(await Promise.all([store.keep(bytes), store.keep(bytes)])).toEqual([digest, digest]);
  expect(new TextDecoder().decode(await store.read(digest))).toBe("abc");
  expect(await readdir(join(folder, "sha256", "ba"))).toEqual([digest]);
});

test("a file whose bytes changed on disk is never handed out, and keeping it again mends it", async () => {
  const store = openFileStore(folder);
  const bytes = new TextEncoder().encode("rows");
  const digest = await store.keep(bytes);
  await writeFile(join(folder, "sha256", digest.slice(0, 2), digest), "other");
  await expect(store.read(digest)).rejects.toThrow("has changed on disk");
  await store.keep(bytes);
  expect(new TextDecoder().decode(await store.read(digest))).toBe("rows");
});

test("a missing file is an error that names its digest", async () => {
  await expect(openFileStore(folder).read("0".repeat(64))).rejects.toThrow("sha256:000");
});
