/** Adapters that settings name: read from text, loaded before the first request, pinned as far as there is room. */
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { demoFolder, demoShape as shape } from "../__fixtures__/demo-model.ts";
import { storeLimits } from "../__fixtures__/store-limits.ts";
import { digestOfFiles, folderSource, readAdapterFolder } from "./adapter-source.ts";
import { AdapterStore, type AdapterStoreOptions } from "./adapter-store.ts";
import { loadDeclared, parseDeclared } from "./declared-adapters.ts";
import { openPacker } from "./packer.ts";

const packer = openPacker();
afterAll(() => packer.close());
const pathOf = (name: string) => join(demoFolder, "adapters", name);
const digestOf = async (name: string) =>
  digestOfFiles(await readAdapterFolder(pathOf(name), 1 << 30));
const pinned = (text: string) => parseDeclared(text, { pinned: true, variable: "PIN" });
const preloaded = (text: string) => parseDeclared(text, { pinned: false, variable: "PRELOAD" });
const byFolder = (name: string) => `${name}=${pathOf(name)}`;

async function setup(options: Partial<AdapterStoreOptions> = {}) {
  const pins = new Set<string>();
  const faults: string[] = [];
  const store = new AdapterStore({
    ...storeLimits,
    shape,
    packer,
    engine: {
      facts: { dims, blocks: 2, blockSize: 16, slots: 2, rankMax: 24 },
      loadAdapter: async () => {},
      unloadAdapter: async () => {},
      pinAdapter: (digest, isPinned) => {
        if (isPinned) pins.add(digest);
        else pins.delete(digest);
      },
    },
    source: await folderSource([join(demoFolder, "adapters")], 1 << 30),
    ...options,
  });
  const load = (text: ReturnType<typeof pinned>) =>
    loadDeclared(store, text, (message) => faults.push(message));
  return { store, pins, faults, load };
}

const dims = {
  ...{ layers: 8, hiddenSize: 256, intermediateSize: 704, heads: 8, keyValueHeads: 4, headDim: 32 },
  ...{ vocabSize: 4096, contextLength: 2048, windows: [Number.POSITIVE_INFINITY] },
  fusedModules: false,
};

test("entries are names with folders, and digests", () => {
  const digest = "a".repeat(64);
  expect(pinned(` support=/srv/a=b , sha256-${digest},`)).toEqual([
    { type: "folder", name: "support", path: "/srv/a=b", pinned: true },
    { type: "digest", digest, pinned: true },
  ]);
  expect(preloaded("")).toEqual([]);
  for (const wrong of ["support", "a/b=folder", "=folder", "name=", "sha256-abc"]) {
    expect(() => pinned(wrong)).toThrow("PIN:");
  }
});

test("are in memory when the server starts, under their names, and pinned where it says so", async () => {
  const { store, pins, load } = await setup();
  const triage = await digestOf("support-triage");
  await load([...pinned(byFolder("tone-formal")), ...preloaded(`sha256-${triage}`)]);
  const tone = await digestOf("tone-formal");
  expect(store.stats().hostDigests.sort()).toEqual([tone, triage].sort());
  expect([...pins]).toEqual([tone]);
  expect(store.named("tone-formal")).toMatchObject({ digest: tone, pinned: true });
});

test("a pinned adapter stays in memory however many others come", async () => {
  const { store, load } = await setup({ hostBytesMax: 2_000_000 });
  const tone = await digestOf("tone-formal");
  await load(pinned(`sha256-${tone}`));
  for (let weight = 1; weight < 9; weight++) {
    const digest = await digestOf("support-triage");
    (await store.acquireMix([{ digest, weight }])).release();
  }
  expect(store.residency(tone).host).toBe(true);
  expect(store.stats().pinnedBytes).toBe(8 * 3 * 4 * (256 + 704) * 4);
});

test("more pinned than there are slots beside one for others ends the start, and says what to change", async () => {
  const { load } = await setup();
  await expect(
    load(pinned(`${byFolder("tone-formal")},${byFolder("support-triage")}`)),
  ).rejects.toMatchObject({
    code: "invalid_value",
    message: expect.stringMatching(/'support-triage': .* keep 2 of 2 slots \('adapterSlots'\)/),
  });
});

test("more pinned than fits into memory ends the start, and says what is left", async () => {
  const { load } = await setup({ hostBytesMax: 400_000 });
  await expect(
    load([...pinned(byFolder("tone-formal")), ...preloaded(byFolder("support-triage"))]),
  ).rejects.toMatchObject({
    message: expect.stringMatching(
      /'support-triage': .*'adapterHostBytesMax' \(400000\) 31360 are/,
    ),
  });
});

test("a folder that cannot be served ends the start; what the registry lacks is told and waited for", async () => {
  const { faults, pins, load, store } = await setup();
  await expect(load(preloaded(`a=${demoFolder}`))).rejects.toThrow("Adapter 'a': No adapter found");
  const unknown = "f".repeat(64);
  await load(pinned(`sha256-${unknown}`));
  expect(faults).toEqual([`adapter sha256-${unknown} could not be loaded at the start`]);
  expect(pins.size).toBe(0);
  expect(store.stats().hostDigests).toEqual([]);
});

test("a name that is pinned stays so with other weights, and gives the pin back when it goes", async () => {
  const { store, pins, load } = await setup();
  await load(pinned(byFolder("tone-formal")));
  await store.loadNamed({
    name: "tone-formal",
    path: pathOf("support-triage"),
    replace: true,
    by: "test",
  });
  expect([...pins]).toEqual([await digestOf("support-triage")]);
  await store.unloadNamed("tone-formal", { by: "test" });
  expect(pins.size).toBe(0);
  await load(pinned(byFolder("banking-intent")));
});

test("of two that are pinned at the same time where one fits, one is", async () => {
  const { store, pins } = await setup();
  const settled = await Promise.allSettled(
    ["tone-formal", "support-triage"].map((name) =>
      store.loadNamed({ name, path: pathOf(name), replace: false, pinned: true, by: "test" }),
    ),
  );
  expect(settled.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(pins.size).toBe(1);
  expect(store.names()).toHaveLength(1);
});
