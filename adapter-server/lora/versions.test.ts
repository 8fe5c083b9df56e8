/** Weights exchanged under a name while requests run on it: the store and the engine's core together. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { demoFolder, demoShape as shape } from "../__fixtures__/demo-model.ts";
import { storeLimits } from "../__fixtures__/store-limits.ts";
import { EngineCore } from "../engine/engine-core.ts";
import type { SequenceOutput } from "../engine/messages.ts";
import { SimulatedRunner, simulatedContinuation } from "../engine/simulated-runner.ts";
import { AdapterFileCache } from "./adapter-files.ts";
import { AdapterStore, type AdapterStoreOptions } from "./adapter-store.ts";
import { openPacker } from "./packer.ts";

const vocabSize = 50;
let folder: string;
const packer = openPacker();
afterAll(() => packer.close());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "versions-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function setup(options: Partial<AdapterStoreOptions> = {}) {
  const runner = new SimulatedRunner({ vocabSize, slots: 2, blocks: 400, contextLength: 256 });
  const outputs = new Map<number, SequenceOutput[]>();
  const forgetting: { digest: string; resolve: () => void }[] = [];
  const core = new EngineCore({
    runner,
    prefixCache: true,
    limits: {
      stepTokensMax: 64,
      sequencesMax: 16,
      prefillChunkMax: 16,
      speculationTokensMax: 0,
      priorityAgeMs: 10_000,
      slotWaitMsMax: 10,
      waitingMax: 64,
      waitMsMax: 60_000,
    },
    nowMs: () => 0,
    onForgotten: (digest) => {
      const index = forgetting.findIndex((one) => one.digest === digest);
      forgetting.splice(index, 1)[0]?.resolve();
    },
    emit: (batch) => {
      for (const output of batch) {
        outputs.set(output.id, [...(outputs.get(output.id) ?? []), output]);
      }
    },
  });
  const known = new Set<string>();
  const files = await AdapterFileCache.open(join(folder, "disk"), 1 << 30);
  const { dims, blocks, blockSize, slots } = runner;
  const store = new AdapterStore({
    ...storeLimits,
    shape,
    packer,
    files,
    engine: {
      facts: { dims, blocks, blockSize, slots, rankMax: 64 },
      loadAdapter: async (adapter) => {
        known.add(adapter.digest);
        core.receive({ type: "adapter", adapter });
      },
      unloadAdapter: (digest) => {
        known.delete(digest);
        core.receive({ type: "forget", digest });
        return new Promise((resolve) => forgetting.push({ digest, resolve }));
      },
      pinAdapter: (digest, pinned) => core.receive({ type: "pin", digest, pinned }),
    },
    ...options,
  });
  let nextId = 1;

  /** Begins a request as a route does: the name stands for weights from now to its end. */
  async function begin(name: string, prompt: number[], maxTokens = 12) {
    const { digest } = store.named(name)!;
    const lease = await store.acquire(digest);
    const id = nextId++;
    const request = { id, prompt, maxTokens, stopIds: [], adapter: digest, tenant: "t" };
    core.receive({ type: "add", request: { ...request, sampling } });
    const settle = () => {
      expect(outputs.get(id)?.flatMap(({ token }) => token ?? [])).toEqual(
        simulatedContinuation({ ...request, vocabSize }),
      );
      lease.release();
    };
    return { digest, settle };
  }

  async function drain() {
    while (core.hasWork) await core.turn();
    core.check();
  }
  return { runner, core, store, files, known, forgetting, begin, drain };
}

const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 };
const pathOf = (name: string) => join(demoFolder, "adapters", name);
/** What its numbers take in float32. */
const triageBytes = 524_288;
const prompt = Array.from({ length: 20 }, (_, index) => index);

test("new requests have the new weights at once, those before finish on the old ones, which then leave", async () => {
  const { runner, core, store, files, known, begin, drain } = await setup();
  const load = (name: string) =>
    store.loadNamed({ name: "a", path: pathOf(name), replace: true, by: "test" });
  const { digest: first } = await load("tone-formal");
  const old = [await begin("a", prompt), await begin("a", prompt.slice(3))];
  // One runs, and of what came before there is one that nobody has begun with.
  for (let i = 0; i < 5; i++) await core.turn();
  old.push(await begin("a", prompt, 30));
  const { digest: second } = await load("support-triage");
  const young = [await begin("a", prompt), await begin("a", prompt.slice(3), 30)];
  expect(old.map(({ digest }) => digest)).toEqual([first, first, first]);
  expect(young.map(({ digest }) => digest)).toEqual([second, second]);
  expect(known).toEqual(new Set([first, second]));
  await drain();
  expect(new Set(runner.loaded)).toEqual(new Set([undefined, first, second]));

  for (const request of [...old, ...young]) request.settle();
  await drain();
  expect([...known]).toEqual([second]);
  expect(runner.loaded.filter(Boolean)).toEqual([second]);
  expect(store.stats().hostDigests).toEqual([second]);
  expect(files.has(first)).toBe(false);
  expect(files.has(second)).toBe(true);
});

test("a name goes to other weights and back, and nobody meets what others computed of the same prompt", async () => {
  const { store, begin, drain, known, files } = await setup();
  const digests: string[] = [];
  for (const name of ["tone-formal", "support-triage", "tone-formal"]) {
    const { digest } = await store.loadNamed({
      name: "a",
      path: pathOf(name),
      replace: true,
      by: "test",
    });
    digests.push(digest);
    // The simulated runner fails where a row attends to keys that other weights computed.
    const requests = [await begin("a", prompt), await begin("a", prompt)];
    await drain();
    for (const request of requests) request.settle();
  }
  expect(digests[2]).toBe(digests[0]);
  await drain();
  expect([...known]).toEqual([digests[0]]);
  expect(files.digests()).toEqual([digests[0]]);
});

test("weights that come back while they drain stay", async () => {
  const { store, begin, drain, known, core, forgetting } = await setup();
  const load = (name: string) =>
    store.loadNamed({ name: "a", path: pathOf(name), replace: true, by: "test" });
  const { digest } = await load("tone-formal");
  const running = await begin("a", prompt, 40);
  await core.turn();
  await load("support-triage");
  await load("tone-formal");
  await drain();
  running.settle();
  const again = await begin("a", prompt);
  await drain();
  again.settle();
  await drain();
  expect([...known]).toEqual([digest]);
  expect(forgetting).toEqual([]);
});

test("many replace a name's weights at once while others unload it: one after the other, and nothing stays behind", async () => {
  const { store, drain, known, files, forgetting } = await setup();
  const load = (name: string) =>
    store.loadNamed({ name: "a", path: pathOf(name), replace: true, by: "test" });
  const unload = () => store.unloadNamed("a", { by: "test" });
  const names = ["tone-formal", "support-triage", "tone-formal", "support-triage"];
  await Promise.all(names.flatMap((name) => [load(name), load(name), unload(), load(name)]));
  const [left] = store.names();
  expect(store.names()).toHaveLength(1);
  expect([...known]).toEqual([left?.digest]);
  expect(files.digests()).toEqual([left?.digest]);
  await unload();
  await drain();
  expect(known.size).toBe(0);
  expect(forgetting).toEqual([]);
  expect(store.stats()).toMatchObject({ hostBytes: 0, hostDigests: [], diskBytes: 0 });
});

test("a mix with weights that are gone goes with them", async () => {
  const { store, known } = await setup();
  const { digest: a } = await store.loadNamed({
    name: "a",
    path: pathOf("tone-formal"),
    replace: false,
    by: "test",
  });
  (await store.acquireMix([{ digest: a, weight: 0.5 }])).release();
  expect(known.size).toBe(2);
  await store.unloadNamed("a", { by: "test" });
  expect(known.size).toBe(0);
  expect(store.stats().hostBytes).toBe(0);
});

test("the same files read anew under their name are the same adapter, and nothing is dropped", async () => {
  const { store, begin, drain, known } = await setup();
  const load = () =>
    store.loadNamed({ name: "a", path: pathOf("tone-formal"), replace: true, by: "test" });
  const { digest } = await load();
  const running = await begin("a", prompt);
  expect((await load()).digest).toBe(digest);
  await drain();
  running.settle();
  expect([...known]).toEqual([digest]);
});

test("a folder that vanishes while it loads fails that load alone, and the name keeps what it had", async () => {
  const { store, begin, drain } = await setup();
  const path = join(folder, "a");
  await cp(pathOf("tone-formal"), path, { recursive: true });
  const { digest } = await store.loadNamed({ name: "a", path, replace: false, by: "test" });
  const running = await begin("a", prompt);
  const [loading] = await Promise.allSettled([
    store.loadNamed({ name: "a", path, replace: true, by: "test" }),
    rm(path, { recursive: true }),
  ]);
  // Whichever came first, it was read whole or not at all.
  if (loading.status === "rejected") expect(loading.reason).toMatchObject({ name: "HubError" });
  await expect(
    store.loadNamed({ name: "a", path, replace: true, by: "test" }),
  ).rejects.toMatchObject({
    code: "not_found",
  });
  expect(store.named("a")?.digest).toBe(digest);
  await drain();
  running.settle();
});

test("a folder that changed while its adapter was out of memory fails its own requests, and tells what to do", async () => {
  const path = join(folder, "a");
  await cp(pathOf("tone-formal"), path, { recursive: true });
  const { store, files, known, begin, drain } = await setup({ hostBytesMax: triageBytes });
  const { digest } = await store.loadNamed({ name: "a", path, replace: false, by: "test" });
  await store.loadNamed({ name: "b", path: pathOf("support-triage"), replace: false, by: "test" });
  expect(known.has(digest)).toBe(false);
  await files.remove(digest);
  const config = join(path, "adapter_config.json");
  await writeFile(config, `${await readFile(config, "utf8")} `);
  await expect(begin("a", prompt)).rejects.toMatchObject({
    code: "adapter_not_applied",
    message: expect.stringContaining("load the adapter again"),
  });
  await rm(path, { recursive: true });
  await expect(begin("a", prompt)).rejects.toMatchObject({ code: "adapter_not_applied" });
  const other = await begin("b", prompt);
  await drain();
  other.settle();
});
