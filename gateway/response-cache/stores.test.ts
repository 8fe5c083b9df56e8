/** What every store of kept answers has to do, run for each that there is. */
import { randomUUID } from "node:crypto";
import { afterAll, describe, expect, test, vi } from "vitest";
import { openTestRedis } from "../metering/testing.ts";
import { MemoryStore } from "./memory-store.ts";
import { RedisStore } from "./redis-store.ts";
import type { ResponseCacheStore, StoreBounds } from "./store.ts";

const redis = await openTestRedis();
const prefixes: string[] = [];
afterAll(async () => {
  if (typeof redis === "string") return;
  for (const prefix of prefixes) {
    const keys = await redis.keys(`{${prefix}:answers}*`);
    if (keys.length > 0) await redis.del(...keys);
  }
  redis.disconnect();
});

const wide: StoreBounds = {
  responseCacheEntriesMax: 1000,
  responseCacheBytesMax: 1 << 20,
  responseCacheProjectEntriesMax: 1000,
  responseCacheProjectBytesMax: 1 << 20,
};

const kinds: {
  name: string;
  skipped?: boolean;
  open(bounds?: Partial<StoreBounds>): ResponseCacheStore;
}[] = [
  {
    name: "in memory",
    open: (bounds) => new MemoryStore({ bounds: { ...wide, ...bounds }, now: Date.now }),
  },
  {
    name: typeof redis === "string" ? redis : "in Redis",
    skipped: typeof redis === "string",
    open(bounds) {
      if (typeof redis === "string") throw new Error(redis);
      const prefix = `test-${randomUUID()}`;
      prefixes.push(prefix);
      return new RedisStore({ redis, bounds: { ...wide, ...bounds }, prefix });
    },
  },
];

const hour = 3_600_000;
const bytes = (length: number, fill = 1) => Buffer.alloc(length, fill);

for (const { name, skipped, open } of kinds) {
  describe.skipIf(skipped)(name, () => {
    test("gives back what was put, to the byte, and nothing under any other name", async () => {
      const store = open();
      const answer = Buffer.from([0, 255, 128, 13, 10, 0xc3, 0x28]);
      await store.put("p", "k", answer, hour);
      expect(await store.get("p", "k")).toEqual(answer);
      expect(await store.get("p", "other")).toBeUndefined();
      expect(await store.get("q", "k")).toBeUndefined();
    });

    test("what is put again replaces what was there, and is counted once", async () => {
      const store = open();
      await store.put("p", "k", bytes(10, 1), hour);
      await store.put("p", "k", bytes(20, 2), hour);
      expect(await store.get("p", "k")).toEqual(bytes(20, 2));
      expect(await store.figures()).toEqual({ entries: 1, bytes: 20, evicted: 0 });
    });

    test("forgets what is too old, and counts it no more", async () => {
      const store = open();
      await store.put("p", "long", bytes(5), hour);
      await store.put("p", "short", bytes(7), 5);
      await vi.waitFor(async () => expect(await store.get("p", "short")).toBeUndefined());
      expect(await store.get("p", "long")).toEqual(bytes(5));
      expect(await store.figures()).toMatchObject({ entries: 1, bytes: 5 });
    });

    test("a project's longest unused answer goes when it has too many", async () => {
      const store = open({ responseCacheProjectEntriesMax: 2 });
      await store.put("p", "a", bytes(1), hour);
      await store.put("p", "b", bytes(1), hour);
      await store.put("q", "a", bytes(1), hour);
      await store.get("p", "a");
      await store.put("p", "c", bytes(1), hour);
      expect(await store.get("p", "b")).toBeUndefined();
      expect(await store.get("p", "a")).toBeDefined();
      expect(await store.get("p", "c")).toBeDefined();
      expect(await store.get("q", "a")).toBeDefined();
      expect(await store.figures()).toEqual({ entries: 3, bytes: 3, evicted: 1 });
    });

    test("a project's answers together are no larger than its bytes", async () => {
      const store = open({ responseCacheProjectBytesMax: 100 });
      for (const key of ["a", "b", "c"]) await store.put("p", key, bytes(40), hour);
      await store.put("q", "a", bytes(100), hour);
      expect(await store.figures()).toEqual({ entries: 3, bytes: 180, evicted: 1 });
      expect(await store.get("p", "a")).toBeUndefined();
      await store.put("p", "huge", bytes(101), hour);
      expect(await store.get("p", "huge")).toBeUndefined();
      expect(await store.get("q", "a")).toBeDefined();
    });

    test("all projects together keep to the bounds of all", async () => {
      const store = open({ responseCacheEntriesMax: 3, responseCacheBytesMax: 100 });
      for (const project of ["p", "q", "r", "s"]) await store.put(project, "k", bytes(10), hour);
      expect(await store.get("p", "k")).toBeUndefined();
      expect(await store.figures()).toEqual({ entries: 3, bytes: 30, evicted: 1 });
      await store.put("t", "k", bytes(81), hour);
      expect(await store.figures()).toEqual({ entries: 2, bytes: 91, evicted: 3 });
      expect(await store.get("s", "k")).toBeDefined();
    });

    test("a purge forgets all of one project and nothing of another", async () => {
      const store = open();
      for (const key of ["a", "b", "c"]) await store.put("p", key, bytes(3), hour);
      await store.put("q", "a", bytes(4), hour);
      expect(await store.purge("p")).toBe(3);
      expect(await store.purge("p")).toBe(0);
      expect(await store.get("p", "a")).toBeUndefined();
      expect(await store.get("q", "a")).toBeDefined();
      expect(await store.figures()).toEqual({ entries: 1, bytes: 4, evicted: 0 });
    });
  });
}
