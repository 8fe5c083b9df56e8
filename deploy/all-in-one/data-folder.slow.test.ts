import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDataFolder } from "./data-folder.ts";
import { openFirstKeys } from "./first-keys.ts";

let parent: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "switchyard-folder-"));
});
afterEach(() => rm(parent, { recursive: true, force: true }));

test("a data folder is private, and free again once it is released", async () => {
  const path = join(parent, "deep", "data");
  const folder = await openDataFolder(path);
  expect(statSync(path).mode & 0o777).toBe(0o700);
  await folder.release();
  await (await openDataFolder(path)).release();
  expect(existsSync(join(path, "lock"))).toBe(false);
});

test("what is written into a folder that lets others in is private all the same", async () => {
  const path = join(parent, "open");
  mkdirSync(path, { mode: 0o755 });
  const folder = await openDataFolder(path);
  writeFileSync(join(path, "file"), "");
  mkdirSync(join(path, "folder"));
  expect(statSync(join(path, "file")).mode & 0o077).toBe(0);
  expect(statSync(join(path, "folder")).mode & 0o077).toBe(0);
  await folder.release();
});

test("a running process keeps others out, a dead one does not", async () => {
  const path = join(parent, "data");
  await (await openDataFolder(path)).release();
  const lock = (owner: object) => writeFileSync(join(path, "lock"), JSON.stringify(owner));
  // The parent of this worker runs as long as the test does.
  lock({ pid: process.ppid, host: hostname() });
  await expect(openDataFolder(path)).rejects.toThrow(`in use by process ${process.ppid}`);
  lock({ pid: 4194304999, host: hostname() });
  await (await openDataFolder(path)).release();
});

test.skipIf(process.platform !== "linux")(
  "a process that was given the number of a dead one does not hold its folder (Linux only)",
  async () => {
    const path = join(parent, "data");
    await (await openDataFolder(path)).release();
    const dead = { pid: process.ppid, host: hostname(), started: "an-earlier-boot:1" };
    writeFileSync(join(path, "lock"), JSON.stringify(dead));
    await (await openDataFolder(path)).release();
  },
);

test("of several that take a dead one's folder at once, one gets it, time after time", async () => {
  const path = join(parent, "data");
  await (await openDataFolder(path)).release();
  for (let round = 0; round < 300; round++) {
    writeFileSync(join(path, "lock"), JSON.stringify({ pid: 4194304999, host: hostname(), round }));
    const settled = await Promise.allSettled(Array.from({ length: 8 }, () => openDataFolder(path)));
    const taken = settled.flatMap((it) => (it.status === "fulfilled" ? [it.value] : []));
    expect(taken).toHaveLength(1);
    await taken[0]?.release();
    expect(readdirSync(path)).toEqual([]);
  }
});

test("first keys are made once, kept private, and the operator's own win", async () => {
  const made = openFirstKeys(parent, {});
  expect(made).toMatchObject({
    isNew: true,
    adminKey: expect.stringMatching(/^sk-sy-admin-/),
    apiKey: expect.stringMatching(/^sk-sy-/),
  });
  expect(statSync(made.path).mode & 0o777).toBe(0o600);
  expect(openFirstKeys(parent, {})).toMatchObject({ isNew: false, apiKey: made.apiKey });

  const own = openFirstKeys(parent, { SWITCHYARD_API_KEY: "my-own-key-of-16-chars" });
  expect(own).toMatchObject({
    isNew: false,
    apiKey: "my-own-key-of-16-chars",
    adminKey: made.adminKey,
  });
  expect(JSON.parse(await readFile(made.path, "utf8"))).toEqual({
    adminKey: made.adminKey,
    apiKey: own.apiKey,
  });
});

test("a key that is too short, or one key for both roles, stops the start", () => {
  expect(() => openFirstKeys(parent, { SWITCHYARD_API_KEY: "short" })).toThrow(
    /SWITCHYARD_API_KEY must have 16 to 256/,
  );
  const same = "one-key-for-everything";
  expect(() =>
    openFirstKeys(parent, { SWITCHYARD_API_KEY: same, SWITCHYARD_ADMIN_KEY: same }),
  ).toThrow(/are the same/);
});
