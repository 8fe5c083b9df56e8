/** The adapter tiers: what is loaded once, what is dropped, and what is refused. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Sha256 } from "../../sdk/protocol/ids.ts";
import { demoShape as shape } from "../__fixtures__/demo-model.ts";
import { storeLimits } from "../__fixtures__/store-limits.ts";
import type { PackedAdapter } from "../engine/types.ts";
import { AdapterFileCache } from "./adapter-files.ts";
import type { AdapterFiles } from "./adapter-source.ts";
import { digestOfFiles, readAdapterFolder, registrySource, sha256Hex } from "./adapter-source.ts";
import { AdapterStore, type AdapterStoreOptions, mixDigest } from "./adapter-store.ts";
import { openPacker } from "./packer.ts";
import { packedBytes } from "./shared-weights.ts";

const adapters = fileURLToPath(new URL("../../deploy/demo-model/adapters/", import.meta.url));
const fileBytesMax = 1 << 30;
let folder: string;
const packer = openPacker();
afterAll(() => packer.close());

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "adapters-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const demoFiles = (name: string) => readAdapterFolder(join(adapters, name), fileBytesMax);
const demoDigest = async (name: string) => digestOfFiles(await demoFiles(name));

/** A store whose engine only remembers what it was told, and whose source counts what it is asked. */
const known = new Map<string, PackedAdapter>();

async function setup(options: Partial<AdapterStoreOptions> = {}) {
  known.clear();
  const pins = new Set<string>();
  const fetched: string[] = [];
  const store = new AdapterStore({
    shape,
    packer,
    engine: {
      facts,
      loadAdapter: async (adapter) => void known.set(adapter.digest, adapter),
      unloadAdapter: async (digest) => void known.delete(digest),
      pinAdapter: (digest, pinned) => {
        if (pinned) pins.add(digest);
        else pins.delete(digest);
      },
    },
    source: {
      async fetchFiles(digest) {
        fetched.push(digest);
        for (const name of ["banking-intent", "support-triage", "tone-formal"]) {
          const files = await demoFiles(name);
          if (digestOfFiles(files) === digest) return files;
        }
        throw new Error("unknown");
      },
    },
    ...storeLimits,
    ...options,
  });
  return { store, known, pins, fetched };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

const dims = {
  layers: 8,
  hiddenSize: 256,
  intermediateSize: 704,
  heads: 8,
  keyValueHeads: 4,
  headDim: 32,
  vocabSize: 4096,
  contextLength: 2048,
  windows: [Number.POSITIVE_INFINITY],
  fusedModules: false,
};

const facts = { dims, blocks: 2, blockSize: 16, slots: 2, rankMax: 24 };

test("requests for one adapter at the same time load it once, into memory that threads share", async () => {
  const { store, known, fetched } = await setup();
  const digest = await demoDigest("tone-formal");
  const leases = await Promise.all([1, 2, 3].map(() => store.acquire(digest)));
  expect(fetched).toEqual([digest]);
  expect(new Set(leases.map(({ adapter }) => adapter)).size).toBe(1);
  const pair = known.get(digest)?.layers[0]?.up_proj;
  expect(pair?.a.buffer).toBeInstanceOf(SharedArrayBuffer);
});

test("an adapter that the engine cannot make ready fails its load alone, and keeps no memory", async () => {
  const failures = [new HubError("internal_error", "no graph")];
  let told = 0;
  const { store } = await setup({
    engine: {
      ...{ facts, pinAdapter: () => {}, unloadAdapter: async () => {} },
      loadAdapter: async () => {
        told++;
        const failure = failures.pop();
        if (failure) throw failure;
      },
    },
  });
  const digest = await demoDigest("tone-formal");
  const waiting = [store.acquire(digest), store.acquire(digest)];
  for (const one of waiting) await expect(one).rejects.toMatchObject({ message: "no graph" });
  expect(store.stats()).toMatchObject({ hostBytes: 0, hostDigests: [] });
  await store.acquire(digest);
  expect(store.stats().hostDigests).toEqual([digest]);
  expect(told).toBe(2);
});

test("an adapter that loads slowly holds up nobody else's", async () => {
  const slow = await demoDigest("support-triage");
  let finish = () => {};
  const { store } = await setup({
    source: {
      async fetchFiles(digest) {
        if (digest !== slow) return demoFiles("tone-formal");
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        return demoFiles("support-triage");
      },
    },
  });
  const waiting = store.acquire(slow);
  const other = await store.acquire(await demoDigest("tone-formal"));
  expect(other.adapter.rank).toBe(4);
  finish();
  expect((await waiting).adapter.digest).toBe(slow);
});

test("a source that hangs fails those who wait for it, after a while, and nobody else", async () => {
  const slow = await demoDigest("support-triage");
  let calls = 0;
  const { store } = await setup({
    fetchMsMax: 300,
    fetchesMax: 2,
    source: {
      fetchFiles: (digest) => {
        calls++;
        if (digest === slow && calls < 2) return new Promise(() => {});
        return demoFiles(digest === slow ? "support-triage" : "tone-formal");
      },
    },
  });
  const waiting = [store.acquire(slow), store.acquire(slow)];
  const told = Promise.all(
    waiting.map((one) => expect(one).rejects.toMatchObject({ code: "upstream_timeout" })),
  );
  expect((await store.acquire(await demoDigest("tone-formal"))).adapter.rank).toBe(4);
  await told;
  expect(store.stats().hostDigests).toHaveLength(1);
  // Whoever asks later has a load of its own.
  expect((await store.acquire(slow)).adapter.digest).toBe(slow);
});

test("no more requests than allowed wait for adapters", async () => {
  let finish = () => {};
  const held = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const { store } = await setup({
    acquiringMax: 2,
    source: {
      async fetchFiles() {
        await held;
        return demoFiles("tone-formal");
      },
    },
  });
  const digest = await demoDigest("tone-formal");
  const waiting = [store.acquire(digest), store.acquire(digest)];
  await expect(store.acquire(digest)).rejects.toMatchObject({ code: "server_is_overloaded" });
  finish();
  expect(await Promise.all(waiting)).toHaveLength(2);
  expect((await store.acquire(digest)).adapter.digest).toBe(digest);
});

test("what nobody uses makes way when memory is full, and comes back from disk", async () => {
  const files = await AdapterFileCache.open(folder, 1 << 30);
  const toneBytes = 8 * 3 * 4 * (256 + 704) * 4;
  const { store, known, fetched } = await setup({ hostBytesMax: 2 * toneBytes, files });
  const mixOf = (weight: number) => [{ digest: tone, weight }];
  const tone = await demoDigest("tone-formal");
  const held = await store.acquire(tone);
  const mix = await store.acquireMix(mixOf(0.5));
  mix.release();
  mix.release();
  expect([...known.keys()]).toEqual([tone, mixDigest(mixOf(0.5))]);
  (await store.acquireMix(mixOf(0.25))).release();
  expect([...known.keys()]).toEqual([tone, mixDigest(mixOf(0.25))]);
  expect(store.stats().hostBytes).toBe(2 * toneBytes);
  held.release();
  await until(() => files.has(tone));
  const other = await setup({ files });
  (await other.store.acquire(tone)).release();
  expect([...fetched, ...other.fetched]).toEqual([tone]);
});

test("memory is filled again once the engine reads it no more, and not before", async () => {
  const forgotten: (() => void)[] = [];
  const toneBytes = 8 * 3 * 4 * (256 + 704) * 4;
  const { store } = await setup({
    hostBytesMax: 8 * toneBytes,
    nowMs: () => 0,
    engine: {
      facts: { dims, blocks: 2, blockSize: 16, slots: 2, rankMax: 24 },
      loadAdapter: async (adapter) => void known.set(adapter.digest, adapter),
      unloadAdapter: () => new Promise((resolve) => forgotten.push(resolve)),
      pinAdapter: () => {},
    },
  });
  await store.acquire(await demoDigest("tone-formal"));
  const mix = async (weight: number) => {
    const parts = [{ digest: await demoDigest("tone-formal"), weight }];
    const { adapter, release } = await store.acquireMix(parts);
    release();
    return adapter.layers[0]!.up_proj!.b;
  };
  const weights = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const first = await mix(weights[0]!);
  const before = first.slice();
  for (const weight of weights.slice(1, 8)) await mix(weight);
  expect(forgotten).toHaveLength(1);
  expect(first).toEqual(before);
  forgotten[0]!();
  await mix(weights[8]!);
  expect(first).toEqual(before.map((value) => value * 9));
});

test("files that are not what was asked for are refused, and a later try may succeed", async () => {
  const digest = await demoDigest("tone-formal");
  let files: AdapterFiles = await demoFiles("support-triage");
  const { store, known } = await setup({ source: { fetchFiles: async () => files } });
  await expect(store.acquire(digest)).rejects.toMatchObject({ code: "adapter_not_applied" });
  expect(known.size).toBe(0);
  files = await demoFiles("tone-formal");
  expect((await store.acquire(digest)).adapter.digest).toBe(digest);
});

test("a broken adapter is refused by name of what is wrong, and nothing of it stays", async () => {
  await cp(join(adapters, "tone-formal"), join(folder, "broken"), { recursive: true });
  const config = JSON.parse(await readFile(join(folder, "broken/adapter_config.json"), "utf8"));
  await writeFile(
    join(folder, "broken/adapter_config.json"),
    JSON.stringify({ ...config, use_dora: true }),
  );
  const { store, known } = await setup();
  const load = store.loadNamed({
    name: "broken",
    path: join(folder, "broken"),
    replace: false,
    by: "test",
  });
  await expect(load).rejects.toMatchObject({ code: "invalid_adapter" });
  expect(store.names()).toEqual([]);
  expect(known.size).toBe(0);
});

test("a name whose folder is gone is still served, from the copy on disk", async () => {
  await cp(join(adapters, "tone-formal"), join(folder, "gone"), { recursive: true });
  const files = await AdapterFileCache.open(join(folder, "cache"), 1 << 30);
  const toneBytes = 8 * 3 * 4 * (256 + 704) * 4;
  const { store, known } = await setup({ hostBytesMax: toneBytes, files, source: undefined });
  const { digest } = await store.loadNamed({
    name: "a",
    path: join(folder, "gone"),
    replace: false,
    by: "test",
  });
  await rm(join(folder, "gone"), { recursive: true });
  const folderB = join(folder, "b");
  await cp(join(adapters, "tone-formal"), folderB, { recursive: true });
  await writeFile(
    join(folderB, "adapter_config.json"),
    `${await readFile(join(folderB, "adapter_config.json"), "utf8")}\n`,
  );
  await store.loadNamed({ name: "b", path: folderB, replace: false, by: "test" });
  expect(known.has(digest)).toBe(false);
  expect((await store.acquire(digest)).adapter.digest).toBe(digest);
});

test("unloading a name lets who uses it finish, and another name of the same weights keeps them", async () => {
  const { store, known } = await setup({ source: undefined });
  const path = join(adapters, "tone-formal");
  const { digest } = await store.loadNamed({ name: "a", path, replace: false, by: "test" });
  await store.loadNamed({ name: "b", path, replace: false, by: "test" });
  const lease = await store.acquire(digest);
  await store.unloadNamed("a", { by: "test" });
  await store.unloadNamed("b", { by: "test" });
  expect(known.has(digest)).toBe(true);
  lease.release();
  expect(known.has(digest)).toBe(false);
  await expect(store.acquire(digest)).rejects.toMatchObject({ code: "model_not_found" });
});

test("two loads of one name at the same time: one wins and the other is told", async () => {
  const { store } = await setup();
  const load = (name: string) =>
    store.loadNamed({ name: "a", path: join(adapters, name), replace: false, by: "test" });
  const settled = await Promise.allSettled([load("tone-formal"), load("support-triage")]);
  expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
  expect(store.named("a")?.digest).toBe(await demoDigest("tone-formal"));
});

test("a mix is an adapter of its own: its parts in any order, its weights counted", async () => {
  const { store, known } = await setup();
  const [a, b] = [await demoDigest("tone-formal"), await demoDigest("support-triage")];
  const one = { digest: a, weight: 0.5 };
  const other = { digest: b, weight: 1 };
  const lease = await store.acquireMix([one, other]);
  expect(lease.adapter.digest).toBe(mixDigest([other, one]));
  expect(mixDigest([one, other])).not.toBe(mixDigest([{ ...one, weight: 0.6 }, other]));
  expect(lease.adapter.rank).toBe(16);
  expect(known.has(lease.adapter.digest)).toBe(true);
  await expect(
    store.acquireMix([one, { digest: "f".repeat(64) as Sha256, weight: 1 }]),
  ).rejects.toThrow();
});

test("a mix whose ranks together do not fit a slot is refused", async () => {
  const { store } = await setup();
  const parts = ["banking-intent", "support-triage"].map(async (name) => ({
    digest: await demoDigest(name),
    weight: 1,
  }));
  await expect(store.acquireMix(await Promise.all(parts))).rejects.toMatchObject({
    code: "adapter_rank_too_large",
  });
});

test("a disk cache survives a restart, ignores what is broken, and keeps to its size", async () => {
  const [tone, triage] = [await demoFiles("tone-formal"), await demoFiles("support-triage")];
  const [toneDigest, triageDigest] = [digestOfFiles(tone), digestOfFiles(triage)];
  await (await AdapterFileCache.open(folder, 1 << 30)).put(toneDigest, tone);
  const again = await AdapterFileCache.open(folder, 1 << 30);
  expect(digestOfFiles((await again.get(toneDigest)) ?? triage)).toBe(toneDigest);
  await writeFile(join(folder, toneDigest, "adapter_config.json"), "{}");
  const { store, fetched } = await setup({ files: again });
  (await store.acquire(toneDigest)).release();
  expect(fetched).toEqual([toneDigest]);
  await until(() => again.has(toneDigest));

  const small = await AdapterFileCache.open(folder, triage.weights.length + triage.config.length);
  expect(small.digests()).toEqual([toneDigest]);
  await small.put(toneDigest, tone);
  await small.put(triageDigest, triage);
  expect(await small.get(toneDigest)).toBe(undefined);
  expect(await small.get(triageDigest)).toBeDefined();
});

test("a registry is asked for the version, then for its two files, with the operator's key", async () => {
  const files = await demoFiles("tone-formal");
  const digest = digestOfFiles(files);
  const [configSha256, weightsSha256] = [sha256Hex(files.config), sha256Hex(files.weights)];
  const version = {
    base: "support-tiny",
    version: 1,
    digest,
    configSha256,
    weightsSha256,
    sizeBytes: 1,
    rank: 4,
    targetModules: [],
    baseDigest: "0".repeat(64),
    lineage: {},
    createdBy: "t",
    createdAt: "2026-01-01T00:00:00Z",
  };
  const asked: (string | null)[] = [];
  const source = registrySource({
    operatorKey: "key",
    fileBytesMax,
    registry: {
      async fetch(request) {
        asked.push(request.headers.get("authorization"));
        const { pathname } = new URL(request.url);
        if (pathname === `/api/adapter-versions/${digest}`) return Response.json(version);
        if (pathname === `/api/artifacts/${configSha256}`)
          return new Response(Buffer.from(files.config));
        if (pathname === `/api/artifacts/${weightsSha256}`)
          return new Response(Buffer.from(files.weights));
        return new Response(null, { status: 404 });
      },
    },
  });
  expect(digestOfFiles(await source.fetchFiles(digest))).toBe(digest);
  expect(asked).toEqual(["Bearer key", "Bearer key", "Bearer key"]);
  const gone = registrySource({
    operatorKey: "key",
    fileBytesMax,
    registry: { fetch: async () => Promise.reject(new TypeError("fetch failed")) },
  });
  await expect(gone.fetchFiles(digest)).rejects.toMatchObject({ code: "upstream_unavailable" });
  await expect(source.fetchFiles("f".repeat(64) as Sha256)).rejects.toMatchObject({
    code: "model_not_found",
  });
});

test("an adapter takes the memory of its numbers", async () => {
  const { store } = await setup();
  const { adapter } = await store.acquire(await demoDigest("tone-formal"));
  // Rank 4 over gate, up and down of 8 layers: each pair has 4 · (256 + 704) numbers.
  expect(packedBytes(adapter)).toBe(8 * 3 * 4 * (256 + 704) * 4);
  expect(store.stats().hostBytes).toBe(packedBytes(adapter));
});

test("a mix that can never fit beside its parts is told so at once, and holds up nobody", async () => {
  const tone = await demoDigest("tone-formal");
  const toneBytes = 8 * 3 * 4 * (256 + 704) * 4;
  const small = await setup({ hostBytesMax: 1.5 * toneBytes });
  const mix = small.store.acquireMix([{ digest: tone, weight: 0.5 }]);
  await expect(mix).rejects.toMatchObject({ code: "unsupported_adapter", param: "adapters" });
  // The part is there, and no longer kept.
  const triage = await demoDigest("support-triage");
  const largest = await setup();
  const { adapter } = await largest.store.acquire(triage);
  const { store } = await setup({ hostBytesMax: packedBytes(adapter) + toneBytes });
  (await store.acquire(triage)).release();
  const parts = [tone, triage].map((digest) => ({ digest, weight: 1 }));
  await expect(store.acquireMix(parts)).rejects.toMatchObject({ code: "unsupported_adapter" });
  (await store.acquire(tone)).release();
  expect(store.stats().hostBytes).toBe(packedBytes(adapter) + toneBytes);
});

test("a mix whose ranks do not fit waits for no room before it is refused", async () => {
  const names = ["banking-intent", "support-triage"];
  const digests = await Promise.all(names.map(demoDigest));
  const whole = await setup();
  const leases = await Promise.all(digests.map((digest) => whole.store.acquire(digest)));
  const bytes = leases.reduce((sum, { adapter }) => sum + packedBytes(adapter), 0);
  const { store } = await setup({ hostBytesMax: 2 * bytes });
  const held = await store.acquire(await demoDigest("tone-formal"));
  const mix = store.acquireMix(digests.map((digest) => ({ digest, weight: 1 })));
  await expect(mix).rejects.toMatchObject({ code: "adapter_rank_too_large" });
  held.release();
});
