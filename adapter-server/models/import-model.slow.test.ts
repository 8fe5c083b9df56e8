import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { demoFolder } from "../__fixtures__/demo-model.ts";
import { importModel } from "./import-model.ts";

const base = join(demoFolder, "base");
let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "switchyard-import-"));
});
afterAll(() => rm(work, { recursive: true, force: true }));

test("a model is described by what its folder says", async () => {
  const model = await importModel({
    folder: base,
    format: "f32",
    names: ["support-tiny"],
    cacheDir: join(work, "described"),
  });
  expect(model.dims).toEqual({
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
  });
  expect(model.endTokenIds).toEqual([2, 0]);
  expect(model.generationDefaults).toEqual({ temperature: 0 });
  expect(model.chatTemplate).toContain("<|im_start|>");
  expect(model.shape.modules.k_proj).toEqual({ in: 256, out: 128 });
  expect(model.shape.trainedAs).toEqual(["support-tiny", "base"]);
  expect(model.baseDigest).toMatch(/^[0-9a-f]{64}$/);
});

test.each([
  [
    { do_sample: false, temperature: 0.6, repetition_penalty: 1.1 },
    { temperature: 0, repetitionPenalty: 1.1 },
  ],
  [
    { do_sample: true, temperature: 0.7, top_k: 20, repetition_penalty: 1.05 },
    { temperature: 0.7, topK: 20, repetitionPenalty: 1.05 },
  ],
])("generation_config.json with %j sets %j", async (generation, defaults) => {
  const folder = await changedCopy({});
  await writeFile(join(folder, "generation_config.json"), JSON.stringify(generation));
  const model = await importModel({ folder, format: "f32", cacheDir: join(work, "described") });
  expect(model.generationDefaults).toEqual(defaults);
});

describe("the cache", () => {
  test("keeps one import for each content and format, under one base digest", async () => {
    const cacheDir = join(work, "kept");
    const progress: number[] = [];
    const onProgress = (done: number) => progress.push(done);
    const first = await importModel({ folder: base, format: "int8", cacheDir, onProgress });
    expect(progress.at(-1)).toBe(1);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    const written = await stat(first.graphPath);
    progress.length = 0;
    const again = await importModel({ folder: base, format: "int8", cacheDir, onProgress });
    expect(again).toEqual(first);
    expect((await stat(again.graphPath)).mtimeMs).toBe(written.mtimeMs);
    expect(progress).toEqual([]);

    const other = await importModel({ folder: base, format: "int4", cacheDir });
    expect(other.baseDigest).toBe(first.baseDigest);
    expect(other.graphPath).not.toBe(first.graphPath);
    expect((await readdir(cacheDir)).length).toBe(2);
  });

  test("takes nothing for finished that an import which was killed left behind", async () => {
    const cacheDir = join(work, "killed");
    const finished = await importModel({ folder: base, format: "f32", cacheDir });
    const digest = finished.graphPath.split("/").at(-2);
    await rm(join(cacheDir, `${digest}`), { recursive: true });
    const killed = `${digest}.killed.tmp`;
    await mkdir(join(cacheDir, killed));
    await writeFile(join(cacheDir, killed, "weights.bin"), "half");
    const again = await importModel({ folder: base, format: "f32", cacheDir });
    expect((await stat(again.graphPath)).size).toBeGreaterThan(10_000);
    expect(await readdir(cacheDir)).toEqual([digest, killed]);

    const nowMs = () => Date.now() + 60 * 60_000;
    await importModel({ folder: base, format: "f32", cacheDir, nowMs });
    expect(await readdir(cacheDir)).toEqual([digest]);
  });

  test("serves two imports of the same model at the same time", async () => {
    const cacheDir = join(work, "both");
    const options = { folder: base, format: "f32", cacheDir } as const;
    const [one, two] = await Promise.all([importModel(options), importModel(options)]);
    expect(one).toEqual(two);
    expect((await readdir(cacheDir)).length).toBe(1);
  });
});

describe("what we do not compute is refused by name", () => {
  test.each([
    [{ architectures: ["MixtralForCausalLM"] }, /'MixtralForCausalLM'.*LlamaForCausalLM/],
    [{ rope_scaling: { rope_type: "dynamic", factor: 4 } }, /rope type 'dynamic'/],
    [{ attention_bias: true }, /attention_bias/],
    [{ hidden_act: "gelu" }, /hidden_act/],
    [{ quantization_config: { quant_method: "gptq" } }, /quantization_config/],
    [{ num_key_value_heads: 3 }, /8 query heads cannot share 3/],
    [{ head_dim: null, hidden_size: 250 }, /head_dim/],
    [{ intermediate_size: 700 }, /gate_proj.*\[704,256\].*\[700,256\]/],
    [{ tie_word_embeddings: false }, /no tensor 'lm_head.weight'/],
    [{ num_hidden_layers: 7 }, /model\.layers\.7\./],
  ])("config %j", async (change, message) => {
    const folder = await changedCopy(change);
    const cacheDir = join(work, "refused");
    await expect(importModel({ folder, format: "f32", cacheDir })).rejects.toThrow(
      expect.objectContaining({
        code: "unsupported_model",
        message: expect.stringMatching(message),
      }),
    );
    expect(await readdir(cacheDir).catch(() => [])).toEqual([]);
  });

  test("a folder without weights, and weights that are cut off", async () => {
    const folder = await changedCopy({});
    const weights = await readFile(join(folder, "model.safetensors"));
    await writeFile(join(folder, "model.safetensors"), weights.subarray(0, 10_000_000));
    const options = { folder, format: "f32", cacheDir: join(work, "refused") } as const;
    await expect(importModel(options)).rejects.toMatchObject({ code: "unsupported_model" });
    await rm(join(folder, "model.safetensors"));
    await expect(importModel(options)).rejects.toThrow(/no file 'model.safetensors'/);
  });

  test.each([
    ["f32", "infinite", 0x7f80],
    ["f32", "not a number", 0x7fc0],
    ["int8", "infinite", 0xff80],
    ["auto", "not a number", 0x7fc0],
  ] as const)("as %s, a weight that is %s", async (format, _what, bits) => {
    const folder = await changedCopy({});
    const path = join(folder, "model.safetensors");
    const file = await readFile(path);
    const headerEnd = 8 + Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString("utf8", 8, headerEnd));
    const tensor = "model.layers.3.mlp.down_proj.weight";
    file.writeUInt16LE(bits, headerEnd + header[tensor].data_offsets[1] - 2);
    await writeFile(path, file);
    const importing = importModel({ folder, format, cacheDir: join(work, "refused") });
    await expect(importing).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringContaining(tensor),
    });
  });
});

async function changedCopy(change: object): Promise<string> {
  const folder = await mkdtemp(join(work, "model-"));
  await cp(base, folder, { recursive: true });
  const config = JSON.parse(await readFile(join(base, "config.json"), "utf8"));
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, ...change }));
  return folder;
}
