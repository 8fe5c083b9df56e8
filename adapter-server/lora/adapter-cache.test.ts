/** Host memory for adapters: never more than fits, nothing lost that is used, nobody waiting without a reason. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { PackedAdapter } from "../engine/types.ts";
import { AdapterCache, type AdapterCacheOptions, type AdapterLease } from "./adapter-cache.ts";

/** An adapter of so many bytes, which are a multiple of 8. */
function adapterOf(digest: string, bytes: number): PackedAdapter {
  const half = new Float32Array(bytes / 8);
  return { digest, rank: 1, layers: [{ q_proj: { a: half, b: half.slice(), rank: 1 } }] };
}

function setup(options: Partial<AdapterCacheOptions> = {}) {
  const known = new Set<string>();
  const dropped: string[] = [];
  const cache = new AdapterCache({
    bytesMax: 800,
    roomWaitMsMax: 60_000,
    nowMs: () => 0,
    makeReady: async () => {},
    onLoaded: ({ digest }) => known.add(digest),
    onDropped: ({ digest }, why) => {
      known.delete(digest);
      dropped.push(`${digest} ${why}`);
    },
    ...options,
  });
  const acquire = (digest: string, bytes: number, signal?: AbortSignal) =>
    cache.acquire(
      digest,
      async (takeRoom) => {
        await takeRoom(bytes);
        return adapterOf(digest, bytes);
      },
      signal,
    );
  return { cache, known, dropped, acquire };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

test("any run of uses, drops and pins stays within the bound, and whoever waits gets in once there is room", async () => {
  const sizes = fc.constantFrom(80, 160, 400, 800);
  const action = fc.oneof(
    fc.record({ type: fc.constant("use" as const), id: fc.nat(9), lease: fc.nat(99) }),
    fc.record({ type: fc.constant("release" as const), id: fc.nat(9), lease: fc.nat(99) }),
    fc.record({ type: fc.constant("drop" as const), id: fc.nat(9), lease: fc.nat(99) }),
    fc.record({ type: fc.constant("pin" as const), id: fc.nat(1), lease: fc.nat(1) }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(sizes, { minLength: 10, maxLength: 10 }),
      fc.array(action, { maxLength: 60 }),
      async (bytes, actions) => {
        const { cache, known, acquire } = setup();
        const held: AdapterLease[] = [];
        const waiting = new Set<number>();
        const pinned = new Set<string>();
        let asked = 0;
        for (const { type, id, lease } of actions) {
          if (type === "use") {
            const ticket = asked++;
            waiting.add(ticket);
            acquire(`a${id}`, bytes[id]!)
              .then((taken) => held.push(taken))
              // One that does not fit beside the pinned ones is refused.
              .catch((error) => expect(error).toMatchObject({ code: "unsupported_adapter" }))
              .finally(() => waiting.delete(ticket));
          } else if (type === "release") {
            held.splice(lease % Math.max(1, held.length), 1)[0]?.release();
          } else if (type === "drop") {
            if (!pinned.has(`a${id}`)) cache.drop(`a${id}`);
          } else if (cache.pin(`a${id}`, lease === 1)) {
            if (lease === 1) pinned.add(`a${id}`);
            else pinned.delete(`a${id}`);
          }
          await settle();
          cache.check();
          for (const { adapter } of held) expect(known).toContain(adapter.digest);
          for (const digest of pinned) if (!known.has(digest)) pinned.delete(digest);
        }
        for (let id = 0; id < 2; id++) cache.pin(`a${id}`, false);
        while (held.length > 0 || waiting.size > 0) {
          held.pop()?.release();
          await settle();
          cache.check();
        }
        expect(cache.bytes).toBeLessThanOrEqual(800);
      },
    ),
    { numRuns: 60 },
  );
});

test("the least used goes first, and a pinned one never", async () => {
  const { cache, known, acquire } = setup();
  for (const digest of ["a", "b", "c", "d"]) (await acquire(digest, 200)).release();
  for (let i = 0; i < 4; i++) (await acquire("a", 200)).release();
  cache.pin("b", true);
  (await acquire("e", 200)).release();
  expect([...known]).toEqual(["a", "b", "d", "e"]);
  (await acquire("f", 200)).release();
  expect([...known]).toEqual(["a", "b", "e", "f"]);
});

test("of two that are used alike, the one that takes longer to load stays", async () => {
  let nowMs = 0;
  const { cache, known } = setup({ nowMs: () => nowMs });
  const load = async (digest: string, ms: number) =>
    (
      await cache.acquire(digest, async (takeRoom) => {
        await takeRoom(400);
        nowMs += ms;
        return adapterOf(digest, 400);
      })
    ).release();
  await load("slow", 500);
  await load("quick", 5);
  await load("new", 5);
  expect([...known]).toEqual(["slow", "new"]);
});

test("a load waits for those in use to leave, and small ones may pass it for a while only", async () => {
  let nowMs = 0;
  const { known, acquire } = setup({ nowMs: () => nowMs });
  const first = await acquire("first", 400);
  const second = await acquire("second", 320);
  const large = acquire("large", 800);
  await settle();
  const small = await acquire("small", 80);
  expect([...known]).toEqual(["first", "second", "small"]);
  nowMs = 1000;
  second.release();
  const late = acquire("late", 80);
  await settle();
  expect(known.has("late")).toBe(false);
  first.release();
  small.release();
  (await large).release();
  (await late).release();
  expect([...known]).toEqual(["late"]);
});

test("who waits too long for room is told to come back, and what is larger than all room at once", async () => {
  const { cache, acquire } = setup({ roomWaitMsMax: 5 });
  const held = await acquire("a", 800);
  await expect(acquire("b", 80)).rejects.toMatchObject({ code: "server_is_overloaded" });
  held.release();
  await expect(acquire("c", 808)).rejects.toMatchObject({
    code: "unsupported_adapter",
    details: { bytes: 808, most: 800 },
  });
  cache.pin("a", true);
  await expect(acquire("d", 80)).rejects.toThrow("0 are left beside pinned adapters");
  cache.check();
});

test("who goes away while an adapter loads leaves nothing held, and the load serves others", async () => {
  const { cache, acquire, dropped } = setup();
  const held = await acquire("a", 800);
  const leave = new AbortController();
  const gone = acquire("b", 400, leave.signal);
  const stays = acquire("b", 400);
  await settle();
  leave.abort();
  await expect(gone).rejects.toMatchObject({ code: "request_cancelled" });
  held.release();
  (await stays).release();
  cache.drop("b");
  expect(dropped).toEqual(["a evicted", "b unwanted"]);
  await expect(acquire("c", 80, leave.signal)).rejects.toMatchObject({ code: "request_cancelled" });
  expect(cache.bytes).toBe(0);
});

test("a load that fails fails all that wait for it, gives its room back, and is tried anew", async () => {
  const { cache, acquire } = setup();
  const fail = () =>
    cache.acquire("a", async (takeRoom) => {
      await takeRoom(800);
      throw new Error("the folder is gone");
    });
  const settled = await Promise.allSettled([fail(), fail()]);
  expect(settled.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(cache.bytes).toBe(0);
  (await acquire("a", 800)).release();
});
