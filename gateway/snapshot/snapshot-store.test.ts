import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, expect, test } from "vitest";
import type { Snapshot } from "../../sdk/protocol/catalog.ts";
import { type TestRegistry, testRegistry } from "../../test/support/gateway.ts";
import { testModel, testSnapshot } from "../../test/support/policy.ts";
import { SnapshotStore } from "./snapshot-store.ts";

const operatorKey = "operator-key-of-the-tests";
const open: { stop(): Promise<void> }[] = [];
const folders: string[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((store) => store.stop()));
  await Promise.all(folders.splice(0).map((folder) => rm(folder, { recursive: true })));
});

function openStore(registry: TestRegistry, dataDir?: string, key = operatorKey): SnapshotStore {
  const store = new SnapshotStore({
    registry,
    operatorKey: key,
    dataDir,
    waitMs: 5_000,
    retryMs: 5,
    retryMsMax: 20,
    now: Date.now,
    logger: pino({ level: "silent" }),
  });
  open.push(store);
  return store;
}

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "switchyard-snapshot-"));
  folders.push(made);
  return made;
}

const version = (number: number): Snapshot =>
  testSnapshot({ version: number, models: [testModel(`model-${number}`)] });

async function untilVersion(store: SnapshotStore, number: number): Promise<void> {
  while (store.current()?.version !== number) await new Promise((done) => setTimeout(done, 2));
}

test("a change in the registry arrives without being asked for", async () => {
  const registry = testRegistry(version(0), operatorKey);
  const store = openStore(registry);
  await store.start();
  expect(store.current()?.version).toBe(0);
  for (let number = 1; number < 5; number++) {
    registry.publish(version(number));
    await untilVersion(store, number);
    expect(store.current()?.model(`model-${number}`)).toBeDefined();
  }
});

test("a long poll that was overtaken by a refresh does not bring back what was before it", async () => {
  const registry = testRegistry(version(1), operatorKey);
  const held: (() => void)[] = [];
  const asked: string[] = [];
  let holds = false;
  const slow = {
    async fetch(request: Request) {
      asked.push(new URL(request.url).searchParams.get("after") ?? "");
      const isHeld = holds && !request.url.includes("waitMs=0");
      const response = await registry.fetch(request);
      if (isHeld) await new Promise<void>((resolve) => held.push(resolve));
      return response;
    },
  };
  const store = openStore({ ...registry, ...slow });
  holds = true;
  await store.start();
  registry.publish(version(2));
  while (held.length === 0) await new Promise((done) => setTimeout(done, 2));
  registry.publish(version(3));
  await store.refresh();
  expect(store.current()?.version).toBe(3);
  holds = false;
  held[0]?.();
  registry.publish(version(4));
  await untilVersion(store, 4);
  // It asks with what it has.
  expect(asked).toEqual(["", "1", "1", "3", ...asked.slice(4)]);
});

test("with the registry away, the snapshot stays and its age grows; when it is back, changes arrive", async () => {
  const registry = testRegistry(version(1), operatorKey);
  const store = openStore(registry);
  await store.start();
  registry.down = true;
  registry.publish(version(2));
  await new Promise((done) => setTimeout(done, 50));
  registry.publish(version(3));
  expect(store.current()?.version).toBeLessThan(3);
  expect(store.ageMs()).toBeGreaterThanOrEqual(0);
  registry.down = false;
  await untilVersion(store, 3);
});

test("a cold start without the registry serves the snapshot on disk, which only its owner can read", async () => {
  const dataDir = await folder();
  const registry = testRegistry(version(7), operatorKey);
  const first = openStore(registry, dataDir);
  await first.start();
  await first.stop();
  const path = join(dataDir, "snapshot.json");
  expect((await stat(path)).mode & 0o777).toBe(0o600);

  registry.down = true;
  const second = openStore(registry, dataDir);
  await second.start();
  expect(second.current()?.version).toBe(7);
  expect(second.current()?.model("model-7")).toBeDefined();
});

test("the newest of many quick changes is what is on disk in the end", async () => {
  const dataDir = await folder();
  const registry = testRegistry(version(0), operatorKey);
  const store = openStore(registry, dataDir);
  await store.start();
  for (let number = 1; number <= 20; number++) {
    registry.publish(version(number));
    await untilVersion(store, number);
  }
  await store.stop();
  const saved = JSON.parse(await readFile(join(dataDir, "snapshot.json"), "utf8")) as Snapshot;
  expect(saved.version).toBe(20);
});

test("a file that is no snapshot is passed over, and replaced when the registry answers", async () => {
  const dataDir = await folder();
  const registry = testRegistry(version(1), operatorKey);
  registry.down = true;
  for (const text of ["", "{", '{"version": "x"}', "null"]) {
    await writeFile(join(dataDir, "snapshot.json"), text);
    const store = openStore(registry, dataDir);
    await store.start();
    expect(store.current()).toBeUndefined();
    expect(store.ageMs()).toBeUndefined();
    await store.stop();
  }
  registry.down = false;
  const store = openStore(registry, dataDir);
  await store.start();
  await store.stop();
  expect(JSON.parse(await readFile(join(dataDir, "snapshot.json"), "utf8"))).toMatchObject({
    version: 1,
  });
});

test("a registry that refuses the operator key leaves the gateway without policy, and alive", async () => {
  const store = openStore(testRegistry(version(1), operatorKey), undefined, "some-other-key");
  await store.start();
  expect(store.current()).toBeUndefined();
});

test("stopping ends a poll that is under way", async () => {
  const store = openStore(testRegistry(version(1), operatorKey));
  await store.start();
  await new Promise((done) => setTimeout(done, 10));
  await store.stop();
});
