/** The GGUF files that the benchmark makes are what our own reader, and so everyone's, takes. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GgufCheckpoint } from "../../../../adapter-server/models/gguf/checkpoint.ts";
import { parseGgufHeader } from "../../../../adapter-server/models/gguf/header.ts";
import { openGguf } from "../../../../adapter-server/models/gguf/source.ts";
import { createTokenizer } from "../../../../adapter-server/models/tokenizer.ts";
import type { BaseShape } from "../../../../sdk/protocol/catalog.ts";
import { writeGguf } from "./gguf-writer.ts";
import { toHalfBytes } from "./half.ts";
import { randomAdapter, writeAdapterGguf } from "./random-adapter.ts";
import { type LlamaShape, writeRandomModel } from "./random-model.ts";

const shape: LlamaShape = {
  layers: 2,
  hidden: 64,
  intermediate: 96,
  heads: 4,
  keyValueHeads: 2,
  vocabulary: 300,
};
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-test-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a random model has the shape that was asked for, and a tokenizer", async () => {
  const path = join(folder, "random.gguf");
  await writeRandomModel(path, shape);
  const source = await openGguf(path);
  expect(source.spec.dims).toMatchObject({
    layers: 2,
    hiddenSize: 64,
    intermediateSize: 96,
    heads: 4,
    keyValueHeads: 2,
    vocabSize: 300,
    contextLength: 2048,
  });
  const ids = createTokenizer(source.tokenizer).encode("a b");
  expect(ids.every((id) => id < shape.vocabulary)).toBe(true);
  const weights = await source.openWeights();
  const values = await weights.read("lm_head.weight");
  await weights.close();
  const squares = values.reduce((sum, value) => sum + value * value, 0);
  expect(Math.sqrt(squares / values.length)).toBeCloseTo(0.02, 2);
});

test("a random model is the same each time", async () => {
  const paths = [join(folder, "one.gguf"), join(folder, "two.gguf")];
  for (const path of paths) await writeRandomModel(path, shape);
  const [one, two] = await Promise.all(paths.map((path) => readFile(path)));
  expect(one?.equals(two as Buffer)).toBe(true);
});

test("an adapter has a pair for each module of each layer, B as PEFT stores it", async () => {
  const path = join(folder, "adapter.gguf");
  const base = {
    layers: 1,
    modules: { q_proj: { in: 8, out: 4 }, down_proj: { in: 6, out: 8 } },
  } as unknown as BaseShape;
  const adapter = randomAdapter(base, 3);
  await writeAdapterGguf(path, adapter);
  const bytes = await readFile(path);
  const header = parseGgufHeader(bytes, bytes.length);
  expect(header?.metadata.get("adapter.type")).toBe("lora");
  const shapes = [...(header?.tensors.values() ?? [])].map(({ name, shape: size }) => [name, size]);
  expect(Object.fromEntries(shapes)).toEqual({
    "blk.0.attn_q.weight.lora_a": [16, 8],
    "blk.0.attn_q.weight.lora_b": [4, 16],
    "blk.0.ffn_down.weight.lora_a": [16, 6],
    "blk.0.ffn_down.weight.lora_b": [8, 16],
  });
  const checkpoint = await GgufCheckpoint.open(path);
  const stored = await checkpoint.read("blk.0.attn_q.weight.lora_b");
  await checkpoint.close();
  const packed = adapter.layers[0]?.q_proj?.b;
  // Row 2, rank 5: ours lies as [rank, out].
  expect(stored[2 * 16 + 5]).toBeCloseTo(packed?.[5 * 4 + 2] as number, 5);
});

test("halves are rounded to the nearest, ties to even", () => {
  const values = [1, -2, 65_504, 65_520, 2 ** -24, 2 ** -25, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1e-9];
  const bytes = toHalfBytes(values);
  expect([...new Uint16Array(bytes.buffer)]).toEqual([
    0x3c00, 0xc000, 0x7bff, 0x7c00, 1, 0, 0x3c00, 0x3c02, 0,
  ]);
});

test("a tensor that yields too little is refused", async () => {
  const tensor = {
    name: "short",
    type: "F32" as const,
    shape: [2],
    parts: () => [new Uint8Array(4)],
  };
  await expect(writeGguf(join(folder, "short.gguf"), {}, [tensor])).rejects.toThrow(
    "tensor short has 4 bytes, not 8",
  );
});
