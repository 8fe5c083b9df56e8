/** The graph that DoRA takes is opened beside the steps: nobody waits for it but who needs it. */
import { execFileSync } from "node:child_process";
import { cp, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { demoFolder, readAdapter } from "../__fixtures__/demo-model.ts";
import { openDora } from "../lora/dora.ts";
import { packedBytes, toSharedMemory } from "../lora/shared-weights.ts";
import { graphFileName } from "../models/graph-files.ts";
import { type ImportedModel, importModel } from "../models/import-model.ts";
import type { MortalRunnerOptions } from "./__fixtures__/mortal-runner.ts";
import { type Engine, type GenerateRequest, startEngine } from "./engine.ts";
import type { PackedAdapter } from "./types.ts";

const doraFixture = fileURLToPath(new URL("../__fixtures__/dora", import.meta.url));
const [golden] = JSON.parse(await readFile(join(doraFixture, "goldens.json"), "utf8")).goldens;

/** Tokens that only these tests' prompts have. */
const [deadlyToken, deadlyToThreadToken] = [4001, 4002];

let folder: string;
let imported: ImportedModel;
let dora: PackedAdapter;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dora-thread-"));
  const cacheDir = join(folder, "imports");
  imported = await importModel({ folder: `${demoFolder}/base`, format: "f32", cacheDir });
  const factors = await openDora({ path: imported.source, digest: imported.baseDigest });
  dora = await readAdapter(doraFixture, imported.shape, factors);
  await factors.close();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let engine: Engine;
let graphPath: string;
const faults: string[] = [];
beforeEach(async () => {
  faults.length = 0;
  const own = await mkdtemp(join(folder, "import-"));
  await cp(dirname(imported.graphPath), own, { recursive: true });
  const model = { ...imported, graphPath: join(own, "model.onnx") };
  graphPath = join(own, graphFileName({ adapters: "dora", keyValues: "f32", weights: "main" }));
  const options: MortalRunnerOptions = {
    ...{ model, blocks: 64, slots: 4, rankMax: 32, threads: 2 },
    ...{ deadlyToken, deadlyToThreadToken },
  };
  engine = await startEngine({
    runner: { module: new URL("./__fixtures__/mortal-runner.ts", import.meta.url).href, options },
    limits: {
      ...{ stepTokensMax: 64, prefillChunkMax: 64, speculationTokensMax: 0, sequencesMax: 8 },
      ...{ waitingMax: 8, waitMsMax: 1_000_000, slotWaitMsMax: 50, priorityAgeMs: 1000 },
    },
    prefixCache: false,
    restartsMax: 3,
    downMs: 20,
    onFault: (message, cause) => faults.push(`${message}: ${cause}`),
  });
});
afterEach(() => engine.close());

const copyOf = (digest: string): PackedAdapter =>
  toSharedMemory({ ...dora, digest }, new SharedArrayBuffer(packedBytes(dora)));

async function answer(rest: Partial<GenerateRequest> = {}): Promise<number[]> {
  const tokens: number[] = [];
  const sampling = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 };
  const asked = { prompt: golden.prompt_ids, maxTokens: golden.greedy_ids.length };
  const request = { ...asked, sampling, stopIds: [], tenant: "a", ...rest };
  for await (const batch of engine.generate(request)) tokens.push(...batch.tokens);
  return tokens;
}

/** The file is there, and who opens it waits until the test lets its bytes come. */
async function holdBack(path: string): Promise<() => Promise<void>> {
  const whole = `${path}.whole`;
  await rename(path, whole);
  execFileSync("mkfifo", [path]);
  return async () => writeFile(path, await readFile(whole));
}

test("streams go on while it is opened, once for all who need it", async () => {
  const letCome = await holdBack(graphPath);
  const digests = ["first", "second"];
  let opened = 0;
  const loads = digests.map(async (digest) => {
    await engine.loadAdapter(copyOf(digest));
    opened++;
  });
  const plain = await answer();
  expect(plain).toHaveLength(golden.greedy_ids.length);
  expect(opened).toBe(0);
  await letCome();
  await Promise.all(loads);
  const all = await Promise.all([answer(), ...digests.map((adapter) => answer({ adapter }))]);
  expect(all).toEqual([plain, golden.greedy_ids, golden.greedy_ids]);
});

test("where it cannot be opened, that load fails alone and may be tried again", async () => {
  const whole = await readFile(graphPath);
  await writeFile(graphPath, "no graph");
  const plain = answer();
  await expect(engine.loadAdapter(copyOf("x"))).rejects.toMatchObject({
    code: "internal_error",
    message: "The graph that the adapter takes could not be opened.",
  });
  expect(await plain).toHaveLength(golden.greedy_ids.length);
  await expect(answer({ adapter: "x" })).rejects.toMatchObject({ code: "model_not_found" });
  await writeFile(graphPath, whole);
  await engine.loadAdapter(copyOf("x"));
  expect(await answer({ adapter: "x" })).toEqual(golden.greedy_ids);
  expect(engine.stats().restarts).toBe(0);
});

test("an adapter can be unloaded, and the engine closed, while it is opened", async () => {
  const letCome = await holdBack(graphPath);
  const [unloaded, closed] = [engine.loadAdapter(copyOf("x")), engine.loadAdapter(copyOf("y"))];
  const told = [
    expect(unloaded).rejects.toMatchObject({ code: "model_not_found" }),
    expect(closed).rejects.toMatchObject({ code: "shutting_down" }),
  ];
  await engine.unloadAdapter("x");
  const closing = engine.close();
  await letCome();
  await Promise.all([closing, ...told]);
});

test.each([
  ["the engine's", deadlyToken],
  ["that of the graphs", deadlyToThreadToken],
])("when %s dies, what ran may be sent again, and it is opened anew", async (_, deadly) => {
  await engine.loadAdapter(copyOf("x"));
  const plain = await answer();
  expect(await answer({ adapter: "x" })).toEqual(golden.greedy_ids);
  const victims = [answer({ prompt: [deadly] }), answer({ adapter: "x", maxTokens: 500 })];
  for (const one of victims) {
    await expect(one).rejects.toMatchObject({ code: "upstream_unavailable" });
  }
  // Nobody loads the adapter again; who asks for it waits until it can be used.
  const again = await Promise.all([answer({ adapter: "x" }), answer()]);
  expect(again).toEqual([golden.greedy_ids, plain]);
  expect(engine.stats().restarts).toBe(1);
});
