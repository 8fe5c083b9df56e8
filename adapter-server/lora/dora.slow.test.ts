/** DoRA against PEFT, against merging it into the weights, and beside adapters and rows that have none of it. */
import { existsSync, readFileSync } from "node:fs";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Transferable, Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSafetensors } from "../../sdk/protocol/adapter/safetensors.ts";
import {
  type DemoRunner,
  demoAdapter,
  demoFolder,
  demoGoldens,
  demoShape,
  type Generated,
  type Golden,
  generate,
  largestDifference,
  openDemoRunner,
  type Prompt,
  readAdapter,
} from "../__fixtures__/demo-model.ts";
import { type DemoServer, openDemoServer } from "../__fixtures__/demo-server.ts";
import { expectGoldens, goldenTolerance } from "../__fixtures__/goldens.ts";
import { randomAdapter } from "../__fixtures__/merged-adapter.ts";
import type { PackedAdapter } from "../engine/types.ts";
import type { BaseCheckpoint } from "../models/base-matrices.ts";
import type { ModelFormat } from "../models/import-model.ts";
import { openModelSource } from "../models/model-source.ts";
import { startWorker } from "../start-worker.ts";
import { openRecordedPacker } from "./__fixtures__/recorded-packer.ts";
import { type AdapterFiles, readAdapterFolder } from "./adapter-source.ts";
import { type Dora, openDora } from "./dora.ts";
import { mixAdapters } from "./pack.ts";
import { openPacker, type PackerOrder } from "./packer.ts";
import { packedBytes } from "./shared-weights.ts";

const families = fileURLToPath(new URL("../../../shared/fixtures/families", import.meta.url));
const doraFixture = fileURLToPath(new URL("../__fixtures__/dora", import.meta.url));
const missing = !existsSync(families);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dora-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A base with what its DoRA adapters take. */
type DoraDemo = DemoRunner & { dora: Dora };

async function open(format: ModelFormat, base?: string): Promise<DoraDemo> {
  const demo = await openDemoRunner(format, join(folder, "imports"), base ? { folder: base } : {});
  const { source, baseDigest } = demo.model;
  return { ...demo, dora: await openDora({ path: source, digest: baseDigest }) };
}

async function close({ runner, dora }: DoraDemo): Promise<void> {
  await Promise.all([runner.close(), dora.close()]);
}

const prompts = demoGoldens("base").goldens.map(({ prompt_ids }) => prompt_ids);
const inSlot = (slot: number, tokensMax = 8): Prompt[] =>
  prompts.map((tokens) => ({ tokens, slot, tokensMax }));

function expectSame(ours: readonly Generated[], expected: readonly Generated[]): void {
  for (const [index, { firstLogits, tokens }] of ours.entries()) {
    const other = expected[index]!;
    expect(largestDifference(firstLogits, other.firstLogits)).toBeLessThan(goldenTolerance);
    expect(tokens).toEqual(other.tokens);
  }
}

describe("an adapter that PEFT has computed", () => {
  test("answers as it did there, beside plain LoRA and plain rows that answer as ever", async () => {
    const demo = await open("f32");
    const { shape } = demo.model;
    demo.runner.loadSlot(3, await readAdapter(doraFixture, shape, demo.dora));
    demo.runner.loadSlot(1, await demoAdapter("tone-formal", shape));
    demo.runner.loadSlot(2, await demoAdapter("banking-intent", shape));
    const cases = ["base", "tone-formal", "banking-intent", "dora"].flatMap((name, slot) =>
      goldensOf(name).map((golden) => ({ name, slot, golden })),
    );
    const asked = cases.map(({ golden, slot }) => ({
      tokens: golden.prompt_ids,
      slot,
      tokensMax: golden.greedy_ids.length,
    }));
    const ends = demo.model.endTokenIds;
    const generated = await generate(demo.runner, asked, { ends, rowsMax: 24 });
    for (const [index, { name, golden }] of cases.entries()) {
      const { tokens, firstLogits } = generated[index]!;
      const ours = golden.next_token.top20_ids.map((id) => firstLogits[id]!);
      const { top20_logits } = golden.next_token;
      expect(largestDifference(ours, top20_logits), name).toBeLessThan(goldenTolerance);
      const tie = golden.greedy_margin_to_second.findIndex((margin) => margin < goldenTolerance);
      const certain = tie === -1 ? golden.greedy_ids.length : tie;
      expect(tokens.slice(0, certain), name).toEqual(golden.greedy_ids.slice(0, certain));
    }
    await close(demo);
  });

  test.skipIf(missing)("of the shared fixtures is served, and as there", async () => {
    const demo = await open("f32", join(families, "models/llama-gqa"));
    const name = join(families, "adapters/llama-gqa/dora");
    const { goldens_if_supported } = JSON.parse(readFileSync(join(name, "expect.json"), "utf8"));
    demo.runner.loadSlot(1, await readAdapter(join(name, "adapter"), demo.model.shape, demo.dora));
    await expectGoldens(demo, goldens_if_supported.cases, 1);
    await close(demo);
  });
});

test.skipIf(missing)(
  "its factors over a GGUF file, whose heads lie otherwise, are those of the same checkpoint",
  async () => {
    const paths = ["models/llama-gqa", "gguf/llama-gqa-f16.gguf"];
    const [checkpoint, file] = await Promise.all(
      paths.map(async (name) => {
        const path = join(families, name);
        const { digest, spec } = await openModelSource(path);
        const dora = await openDora({ path, digest });
        const module = (outputs: number) => ({ in: spec.dims.hiddenSize, out: outputs });
        const modules = { q_proj: module(128), v_proj: module(32), up_proj: module(160) };
        const shape = { ...demoShape, ...spec.dims, modules };
        const adapter = await readAdapter(
          join(families, "adapters/llama-gqa/dora/adapter"),
          shape,
          dora,
        );
        await dora.close();
        return adapter.layers.map(({ q_proj, v_proj, up_proj }) =>
          [q_proj, v_proj, up_proj].flatMap((pair) => [...pair!.gain!]),
        );
      }),
    );
    for (const [layer, gains] of checkpoint!.entries()) {
      expect(largestDifference(gains, file![layer]!)).toBeLessThan(1e-5);
      expect(Math.max(...gains) - Math.min(...gains)).toBeGreaterThan(0.1);
    }
  },
);

describe("a merged adapter", () => {
  const bases = ["models/llama-gqa", "models/qwen2", "models/qwen3", "later/phi3", "later/gemma3"];

  test.each(["demo-model", ...(missing ? [] : bases)])(
    "on all modules of %s answers as it does unmerged: with biases, fused modules, norms of outputs",
    async (name) => {
      const base = name === "demo-model" ? `${demoFolder}/base` : join(families, name);
      const demo = await open("f32", base);
      const { shape } = demo.model;
      const { adapter, merged } = await randomAdapter(base, shape, { into: folder, dora: true });
      demo.runner.loadSlot(2, await readAdapter(adapter, shape, demo.dora));
      const whole = await openDemoRunner("f32", join(folder, "imports"), { folder: merged });
      const tokens = prompts.map((prompt) => prompt.map((token) => token % shape.vocabSize));
      const asked = (slot: number) => tokens.map((one) => ({ tokens: one, slot, tokensMax: 8 }));
      const expected = await generate(whole.runner, asked(0), { ends: [] });
      expectSame(await generate(demo.runner, asked(2), { ends: [] }), expected);
      const [plain] = await generate(demo.runner, asked(0), { ends: [] });
      expect(largestDifference(plain!.firstLogits, expected[0]!.firstLogits)).toBeGreaterThan(1);
      await whole.runner.close();
      await close(demo);
    },
  );

  test.each<ModelFormat>(["int8", "int8-blocks"])(
    "that is imported as %s is near to the same over a base of that format",
    async (format) => {
      const base = `${demoFolder}/base`;
      const demo = await open(format);
      const { shape } = demo.model;
      const { adapter, merged } = await randomAdapter(base, shape, { into: folder, dora: true });
      demo.runner.loadSlot(1, await readAdapter(adapter, shape, demo.dora));
      const whole = await openDemoRunner(format, join(folder, "imports"), { folder: merged });
      const ours = await generate(demo.runner, inSlot(1, 1), { ends: [] });
      const theirs = await generate(whole.runner, inSlot(0, 1), { ends: [] });
      const [plain] = await generate(demo.runner, inSlot(0, 1), { ends: [] });
      const apart = ours.map(({ firstLogits }, index) =>
        distance(firstLogits, theirs[index]!.firstLogits),
      );
      // Both are rounded, and at other places: the adapter's own product is not.
      expect(Math.max(...apart)).toBeLessThan(
        0.2 * distance(plain!.firstLogits, ours[0]!.firstLogits),
      );
      await whole.runner.close();
      await close(demo);
    },
  );
});

describe("adapters beside one of DoRA", () => {
  let demo: DoraDemo;
  let dora: PackedAdapter;
  let plain: PackedAdapter;
  let other: PackedAdapter;
  beforeAll(async () => {
    demo = await open("f32");
    const { shape } = demo.model;
    dora = await readAdapter(doraFixture, shape, demo.dora);
    plain = await demoAdapter("tone-formal", shape);
    other = await demoAdapter("support-triage", shape);
  });
  afterAll(() => close(demo));

  test.each<ModelFormat>(["f32", "int8", "int4"])(
    "have bit for bit the numbers of a call without it, with %s weights",
    async (format) => {
      const { runner } = await openDemoRunner(format, join(folder, "imports"));
      runner.loadSlot(1, plain);
      runner.loadSlot(2, other);
      const rows = [0, 1, 2].map((slot) => ({
        sequenceId: slot,
        tokens: prompts[slot]!.slice(0, 12),
        position: 0,
        blocks: [2 * slot, 2 * slot + 1],
        slot,
        samples: 1,
      }));
      // As many rows in either call, and in slots of the same places: kernels differ by the sizes of a call.
      runner.loadSlot(3, { ...plain, digest: "another" });
      const fourth = { ...rows[0]!, sequenceId: 3, slot: 3, blocks: [6, 7] };
      const without = copied(await runner.run([], [...rows, fourth]));
      runner.loadSlot(3, { ...dora, rank: plain.rank });
      const beside = copied(await runner.run([], [...rows, fourth]));
      expect(beside.slice(0, 3)).toEqual(without.slice(0, 3));
      expect(largestDifference(beside[3]!, without[3]!)).toBeGreaterThan(0.1);
      await runner.close();
    },
  );

  test("take its slot and its place, and nothing of its gains is left there", async () => {
    const { runner } = demo;
    runner.loadSlot(1, dora);
    const first = await generate(runner, inSlot(1), { ends: [] });
    runner.loadSlot(1, plain);
    runner.loadSlot(2, dora);
    const both = [...inSlot(1), ...inSlot(2)];
    const together = await generate(runner, both, { ends: [], rowsMax: 12 });
    runner.clearSlot(2);
    const alone = await generate(runner, inSlot(1), { ends: [] });
    expectSame(together.slice(prompts.length), first);
    expectSame(together.slice(0, prompts.length), alone);
    // An adapter of the largest rank lays all of them out anew.
    runner.loadSlot(3, { ...dora, digest: "copy" });
    runner.loadSlot(4, { ...other, rank: 32 });
    const after = [...inSlot(4), ...inSlot(3)];
    const again = await generate(runner, after, { ends: [], rowsMax: 12 });
    expectSame(again.slice(prompts.length), first);
  });

  test("stay clean when its gains are not numbers", async () => {
    const { runner } = demo;
    const broken = {
      ...dora,
      digest: "broken",
      layers: dora.layers.map((pairs) =>
        Object.fromEntries(
          Object.entries(pairs).map(([module, pair]) => [
            module,
            { ...pair, gain: pair.gain!.map(() => Number.NaN) },
          ]),
        ),
      ),
    };
    runner.loadSlot(1, plain);
    const before = await generate(runner, [...inSlot(1), ...inSlot(0)], { ends: [] });
    runner.loadSlot(2, broken);
    const mixed = [...inSlot(1), ...inSlot(0), ...inSlot(2, 1)];
    const beside = await generate(runner, mixed, { ends: [], rowsMax: mixed.length });
    expectSame(beside.slice(0, before.length), before);
    expect(beside.at(-1)!.firstLogits.every(Number.isNaN)).toBe(true);
  });

  test("mix with it: each adds what it makes of the base's matrices, by its weight", async () => {
    const { runner } = demo;
    const mix = (weights: [PackedAdapter, number][], digest: string) =>
      mixAdapters(
        weights.map(([adapter, weight]) => ({ adapter, weight })),
        { digest, rankMax: 32 },
      );
    runner.loadSlot(1, dora);
    const whole = await generate(runner, inSlot(1), { ends: [] });
    runner.loadSlot(2, mix([[dora, 1]], "one"));
    expectSame(await generate(runner, inSlot(2), { ends: [] }), whole);
    const halves: [PackedAdapter, number][] = [
      [dora, 0.25],
      [dora, 0.75],
    ];
    runner.loadSlot(3, mix(halves, "halves"));
    expectSame(await generate(runner, inSlot(3), { ends: [] }), whole);
    const cancelled: [PackedAdapter, number][] = [
      [dora, 1.5],
      [plain, 1],
      [dora, -1.5],
    ];
    runner.loadSlot(4, mix(cancelled, "cancelled"));
    runner.loadSlot(5, plain);
    const rest = await generate(runner, inSlot(5), { ends: [] });
    expectSame(await generate(runner, inSlot(4), { ends: [] }), rest);
  });
});

test("a checkpoint that is not the one that is served is refused", async () => {
  const base = join(folder, "moved");
  await cp(`${demoFolder}/base`, base, { recursive: true });
  const { model, runner } = await openDemoRunner("f32", join(folder, "imports"), { folder: base });
  await runner.close();
  const checkpoint = { path: model.source, digest: model.baseDigest };
  await (await openDora(checkpoint)).close();
  await rm(join(base, "model.safetensors"));
  await expect(openDora(checkpoint)).rejects.toMatchObject({ code: "adapter_base_mismatch" });
  const other = { ...checkpoint, path: `${demoFolder}/base`, digest: "0".repeat(64) };
  await expect(openDora(other)).rejects.toMatchObject({ code: "adapter_base_mismatch" });
});

test("packing it counts as large, and takes the base's own weights", async () => {
  const begun: string[] = [];
  const packer = openRecordedPacker(begun);
  const filesOf = (path: string) => readAdapterFolder(path, 1 << 30);
  const plain = () => filesOf(join(demoFolder, "adapters/tone-formal"));
  const { files, memoryBytes, needsBase } = await packer.identify(await filesOf(doraFixture));
  expect(needsBase).toBe(true);
  expect((await packer.identify(await plain())).needsBase).toBe(false);
  const path = `${demoFolder}/base`;
  const served = { path, digest: (await openModelSource(path)).digest };
  const pack = async (digest: string, given: AdapterFiles, checkpoint?: BaseCheckpoint) => {
    const memory = new SharedArrayBuffer(1 << 20);
    const base = { shape: demoShape, rankMax: 8 };
    return packer.pack({ type: "pack", files: given, digest, base, checkpoint, memory });
  };
  begun.length = 0;
  const [small, other] = [await plain(), await filesOf(doraFixture)];
  const packed = [
    pack("first", files, served),
    pack("second", other, served),
    pack("small", small),
  ];
  const [first] = await Promise.all(packed);
  expect(begun).toEqual(["first", "small", "second"]);
  const { gain, b } = first!.adapter.layers[5]!.down_proj!;
  // The magnitudes were drawn about the lengths of the base's rows.
  expect(gain!.every((value) => Math.abs(value) < 3)).toBe(true);
  expect(gain!.some((value) => Math.abs(value) > 0.1)).toBe(true);
  expect(gain!.buffer).toBe(b.buffer);
  expect(packedBytes(first!.adapter)).toBe(memoryBytes);
  await expect(pack("without", await filesOf(doraFixture))).rejects.toMatchObject({
    code: "unsupported_adapter",
  });
  const changed = pack("changed", await filesOf(doraFixture), { path, digest: "other" });
  await expect(changed).rejects.toMatchObject({ code: "adapter_base_mismatch" });
  await packer.close();
});

test("the checkpoint is read once, however many threads pack", async () => {
  const orders: { worker: Worker; task: string; known: number | undefined }[] = [];
  const packer = openPacker({
    threadsMax: 4,
    startThread: (...given) => {
      const worker = startWorker(...given);
      const post = worker.postMessage.bind(worker);
      worker.postMessage = (order: PackerOrder, transferred?: Transferable[]) => {
        const task = "digest" in order.task ? order.task.digest : order.task.type;
        orders.push({ worker, task, known: order.fileDigests?.size });
        post(order, transferred);
      };
      return worker;
    },
  });
  const path = `${demoFolder}/base`;
  const checkpoint = { path, digest: (await openModelSource(path)).digest };
  const pack = async (digest: string) =>
    packer.pack({
      ...{ type: "pack", digest, checkpoint, base: { shape: demoShape, rankMax: 8 } },
      files: await readAdapterFolder(doraFixture, 1 << 30),
      memory: new SharedArrayBuffer(1 << 20),
    });
  const [first, ...others] = await Promise.all(["first", "second", "third"].map(pack));
  for (const { adapter } of others) {
    expect(adapter.layers).toEqual(first!.adapter.layers);
  }
  // Those that came with it wait for the one that reads, and then are packed beside each other.
  expect(orders.map(({ known }) => known)).toEqual([0, 3, 3]);
  expect(new Set(orders.slice(1).map(({ worker }) => worker)).size).toBe(2);
  await packer.close();
});

describe("a server", () => {
  let server: DemoServer;
  beforeAll(async () => {
    const adapterFolders = [join(demoFolder, "adapters"), join(doraFixture, ".."), folder];
    server = await openDemoServer({ adapterFolders });
  });
  afterAll(() => server.close());

  const greedy = (model: string, golden: Golden) =>
    server.ask<{ choices: { text: string }[] }>("/v1/completions", {
      ...{ model, prompt: golden.prompt_ids, temperature: 0, ignore_eos: true },
      max_tokens: golden.greedy_ids.length,
    });

  test("loads it, answers with it beside others, and gives its memory back", async () => {
    await server.load("dora");
    await server.load("tone-formal");
    const golden = goldensOf("dora")[1];
    const text = server.tokenizer.decode(golden!.greedy_ids);
    const plain = goldensOf("tone-formal")[1];
    const answers = await Promise.all([
      greedy("dora", golden!),
      greedy("tone-formal", plain!),
      greedy("support-tiny", golden!),
    ]);
    expect(answers[0].choices[0]!.text).toBe(text);
    expect(answers[1].choices[0]!.text).toBe(server.tokenizer.decode(plain!.greedy_ids));
    expect(answers[2].choices[0]!.text).not.toBe(text);
    const { adapters } = server.server;
    const { hostBytes } = adapters.stats();
    const unloading = await server.post("/v1/unload_lora_adapter", { lora_name: "dora" });
    expect(unloading.status).toBe(200);
    const magnitudes = 2 * (4 * 256 + 2 * 128 + 2 * 704 - 256);
    const pairs = 2 * (2 * (6 * 256 + 256 + 2 * 128 + 256 + 2 * 704) + 3 * (704 + 256));
    expect(hostBytes - adapters.stats().hostBytes).toBe(4 * (pairs + magnitudes));
  });

  test("refuses magnitudes that make no number to compute with, and keeps nothing of them", async () => {
    const name = "damaged";
    await cp(doraFixture, join(folder, name), { recursive: true });
    const path = join(folder, name, "adapter_model.safetensors");
    const bytes = await readFile(path);
    const tensor = parseSafetensors(bytes).tensors.get(
      "base_model.model.model.layers.5.self_attn.k_proj.lora_magnitude_vector",
    );
    // 9984 in bfloat16, which is a value that files may hold.
    bytes.writeUInt16LE(0x461c, tensor!.begin + 2 * 7);
    await writeFile(path, bytes);
    expect(
      await server.refusal("/v1/load_lora_adapter", { lora_name: name, lora_path: name }),
    ).toMatchObject({
      status: 400,
      code: "invalid_adapter",
      message: expect.stringMatching(/output 7 of 'k_proj' in layer 5/),
    });
    expect(server.server.adapters.named(name)).toBe(undefined);
  });
});

function goldensOf(name: string): Golden[] {
  if (name !== "dora") return demoGoldens(name).goldens.slice(0, 3);
  return JSON.parse(readFileSync(join(doraFixture, "goldens.json"), "utf8")).goldens;
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.sqrt(a.reduce((sum, value, index) => sum + (value - b[index]!) ** 2, 0));
}

/** Results are the runner's until its next call. */
function copied(logits: readonly Float32Array[]): Float32Array[] {
  return logits.map((values) => values.slice());
}
