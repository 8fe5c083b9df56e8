import { createHash } from "node:crypto";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ArtifactStore, sha256Of } from "./store.ts";

let folder: string;
let store: ArtifactStore;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "switchyard-artifacts-"));
  store = new ArtifactStore(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const bytes = Buffer.from("weights");
const put = async (target: ArtifactStore) => {
  const digest = await sha256Of(bytes);
  await target.put(digest, bytes);
  return digest;
};
const pathOf = (digest: string) => join(folder, "artifacts/sha256", digest.slice(0, 2), digest);
const files = () =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    statSync(join(folder, name)).isFile(),
  );

describe("ArtifactStore", () => {
  test("keeps bytes under their hash, for its owner only", async () => {
    const digest = await put(store);
    expect(digest).toBe(createHash("sha256").update(bytes).digest("hex"));
    expect(readFileSync(pathOf(digest))).toEqual(bytes);
    expect(statSync(pathOf(digest)).mode & 0o777).toBe(0o600);
    expect(await store.read(digest)).toEqual(bytes);
  });

  test("the same bytes, also at the same time, are one file and no rest", async () => {
    await Promise.all(Array.from({ length: 8 }, () => put(store)));
    expect(files()).toHaveLength(1);
  });

  test("a damaged file is not handed out, and the next put heals it", async () => {
    const digest = await put(store);
    writeFileSync(pathOf(digest), "weightx");
    await expect(store.read(digest)).rejects.toMatchObject({ code: "not_found" });
    await put(store);
    expect(await store.read(digest)).toEqual(bytes);
  });

  test.each(["../../etc/passwd", "", "A".repeat(64), `${"a".repeat(63)}/`, `${"a".repeat(64)}\n`])(
    "%j is no artifact and no path",
    async (digest) => {
      await expect(store.read(digest)).rejects.toMatchObject({ code: "not_found" });
    },
  );

  test("a write that fails leaves no file behind", async () => {
    const digest = await sha256Of(bytes);
    // A file where the folder should be stops every user, also one that no mode stops.
    rmSync(join(folder, "artifacts"), { recursive: true, force: true });
    writeFileSync(join(folder, "artifacts"), "");
    chmodSync(join(folder, "artifacts"), 0o400);
    await expect(put(store)).rejects.toThrow();
    rmSync(join(folder, "artifacts"));
    await expect(store.read(digest)).rejects.toMatchObject({ code: "not_found" });
    expect(files()).toEqual([]);
  });
});
