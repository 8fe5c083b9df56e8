import { existsSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDataFolder } from "./data-folder.ts";
import { openFirstKeys } from "./first-keys.ts";

let parent: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "switchyard-folder-"));
});
afterEach(() => rm(parent, { recursive: true, force: true }));

test("a data folder is private, and free again once it is released", () => {
  const path = join(parent, "deep", "data");
  const folder = openDataFolder(path);
  expect(statSync(path).mode & 0o777).toBe(0o700);
  folder.release();
  openDataFolder(path).release();
  expect(existsSync(join(path, "lock"))).toBe(false);
});

test("a running process keeps others out, a dead one does not", () => {
  const path = join(parent, "data");
  openDataFolder(path).release();
  // The parent of this worker runs as long as the test does.
  writeFileSync(join(path, "lock"), String(process.ppid));
  expect(() => openDataFolder(path)).toThrow(`in use by process ${process.ppid}`);
  writeFileSync(join(path, "lock"), "4194304999");
  openDataFolder(path).release();
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
