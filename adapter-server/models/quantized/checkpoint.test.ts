/** Quantized checkpoints of an independent packer, and what is wrong with those that nobody should load. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSafetensors } from "../../../sdk/protocol/adapter/safetensors.ts";
import { safetensorsBytes, type TestTensor } from "../../__fixtures__/safetensors.ts";
import { checkShapes } from "../checkpoint-weights.ts";
import { readFolderFacts } from "../library/folder-facts.ts";
import { openModelSource, type WeightFiles } from "../model-source.ts";

const fixtures = fileURLToPath(new URL("__fixtures__", import.meta.url));
const kinds = ["gptq-act-order", "gptq-v2-8bit", "awq", "compressed-tensors"];
const keyMatrix = "model.layers.0.self_attn.k_proj";

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "switchyard-quantized-"));
});
afterAll(() => rm(work, { recursive: true, force: true }));

describe.each(kinds)("%s", (kind) => {
  test("rows are bit for bit what was packed, however they are cut", async () => {
    const { rows } = JSON.parse(await readFile(join(fixtures, kind, "goldens.json"), "utf8"));
    const bytes = new Uint8Array(Buffer.from(rows.values_f32le_b64, "base64"));
    const expected = [...new Float32Array(bytes.buffer)];
    await withWeights(join(fixtures, kind), async (weights) => {
      expect([...(await weights.read(rows.tensor, rows.from, rows.to))]).toEqual(expected);
      const other = "model.layers.1.mlp.up_proj.weight";
      const all = await weights.read(other);
      const cut: number[] = [];
      for (const [from, to] of [
        [0, 1],
        [1, 11],
        [11, 96],
      ] as const) {
        cut.push(...(await weights.read(other, from, to)));
        await weights.read(rows.tensor, 0, 1);
      }
      expect(cut).toEqual([...all]);
      expect(new Float32Array((await weights.readStored(other)).buffer)).toEqual(all);
    });
  });

  test("it has the tensors of a plain checkpoint, and nothing else", async () => {
    const { spec } = await openModelSource(join(fixtures, kind));
    await withWeights(join(fixtures, kind), async (weights) => {
      checkShapes(weights, spec);
      expect(weights.names().filter((name) => !name.endsWith(".weight"))).toEqual([]);
      expect(weights.dtype(`${keyMatrix}.weight`)).toBe("F32");
      expect(weights.dtype("model.embed_tokens.weight")).toBe("F16");
    });
  });
});

test("what a quantized matrix holds is counted as its values, not as its words", async () => {
  const { parameters, groups } = await readFolderFacts(join(fixtures, "awq"));
  expect(parameters).toBe(96 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 96 + 2 * 64) + 64);
  expect(groups.map(({ group, format }) => `${group} ${format}`)).toEqual([
    "embedding f16",
    "attention awq int4",
    "feed-forward awq int4",
    "feed-forward f16",
    "norms f16",
  ]);
  expect((await readFolderFacts(join(fixtures, "gptq-v2-8bit"))).groups.at(-1)).toMatchObject({
    group: "output",
    format: "gptq int8",
    tensors: 1,
    parameters: 96 * 64,
  });
});

describe("tensors that contradict each other are refused by name", () => {
  const infinity = Uint8Array.of(0x00, 0x7c);
  type Change = (tensor: TestTensor) => TestTensor | undefined;
  const cases: [string, string, string, Change, RegExp][] = [
    ["gptq-act-order", "no zero points", "qzeros", () => undefined, /no tensor '.*k_proj\.qzeros'/],
    ["gptq-act-order", "no order", "g_idx", () => undefined, /no tensor '.*k_proj\.g_idx'/],
    [
      "gptq-act-order",
      "a group out of range",
      "g_idx",
      patched(Uint8Array.of(2, 0, 0, 0)),
      /k_proj'.*group 2 of 2/,
    ],
    [
      "gptq-act-order",
      "a negative group",
      "g_idx",
      patched(Uint8Array.of(255, 255, 255, 255)),
      /group -1 of 2/,
    ],
    [
      "gptq-act-order",
      "an infinite scale",
      "scales",
      patched(infinity),
      /k_proj\.scales'.*no numbers/,
    ],
    [
      "gptq-act-order",
      "scales of another shape",
      "scales",
      shaped([1, 64]),
      /k_proj\.scales'.*\[1,64\].*\[2,32\]/,
    ],
    [
      "gptq-act-order",
      "a bias of the model's own",
      "bias",
      patched(Uint8Array.of(1)),
      /k_proj\.bias'.*no place/,
    ],
    [
      "gptq-act-order",
      "weights of another type",
      "qweight",
      typed("F32"),
      /k_proj\.qweight'.*F32.*I32/,
    ],
    ["gptq-act-order", "a matrix without inputs", "qweight", emptied, /k_proj\.qweight' is empty/],
    ["awq", "a matrix turned around", "qweight", shaped([4, 64]), /k_proj\.qzeros'.*\[1,64\]/],
    [
      "compressed-tensors",
      "another shape told",
      "weight_shape",
      patched(Uint8Array.of(9)),
      /weight_shape is \[9,64\]/,
    ],
  ];
  test.each(cases)("%s with %s", async (kind, _what, ending, change, message) => {
    const folder = await changedCopy(kind, { tensor: `${keyMatrix}.${ending}`, change });
    await expect(readAll(folder)).rejects.toThrow(
      expect.objectContaining({
        code: "unsupported_model",
        message: expect.stringMatching(message),
      }),
    );
  });

  test("a matrix that is there twice", async () => {
    const folder = await changedCopy("awq", {});
    await rewrite(folder, (tensors) => ({
      ...tensors,
      [`${keyMatrix}.weight`]: { dtype: "F16", shape: [1, 1], bytes: new Uint8Array(2) },
    }));
    await expect(readAll(folder)).rejects.toThrow(/k_proj\.weight' is stored twice/);
  });
});

describe("settings that are not read, or lie, are refused by name", () => {
  const group = (weights: object) => ({
    config_groups: {
      group_0: { weights: { num_bits: 4, strategy: "group", group_size: 32, ...weights } },
    },
  });
  test.each([
    ["awq", { quant_method: "bitsandbytes" }, /'bitsandbytes'.*gptq, awq/],
    ["awq", { quant_method: "fp8" }, /'fp8'/],
    ["awq", { quant_method: undefined }, /quant_method/],
    ["awq", { version: "GEMV" }, /AWQ version 'gemv'/],
    ["awq", { backend: "llm-awq" }, /AWQ version 'llm-awq'/],
    ["awq", { bits: 8 }, /AWQ with 8 bits/],
    ["awq", { zero_point: false }, /without zero points/],
    ["awq", { group_size: 64 }, /qzeros'.*\[2,12\].*\[1,12\]/],
    ["awq", { group_size: 0 }, /group_size/],
    ["gptq-act-order", { bits: 3 }, /GPTQ with 3 bits/],
    ["gptq-act-order", { bits: 2 }, /GPTQ with 2 bits/],
    ["gptq-act-order", { bits: 8 }, /qzeros'/],
    ["gptq-act-order", { group_size: 16 }, /qzeros'.*\[3,8\].*\[6,8\]/],
    ["gptq-act-order", { group_size: -1 }, /qzeros'.*\[3,8\].*\[1,8\]/],
    ["gptq-act-order", { checkpoint_format: "marlin" }, /GPTQ format 'marlin'/],
    ["gptq-act-order", { is_marlin_format: true }, /GPTQ format 'marlin'/],
    [
      "gptq-act-order",
      { dynamic: { "+:.*down.*": { bits: 8 } } },
      /single matrices \('\+:\.\*down/,
    ],
    ["gptq-act-order", { rotation: "hadamard" }, /'rotation'/],
    ["gptq-act-order", { pack_dtype: "int16" }, /pack_dtype/],
    ["compressed-tensors", { format: "float-quantized" }, /'float-quantized'.*pack-quantized/],
    ["compressed-tensors", group({ type: "float" }), /type/],
    ["compressed-tensors", group({ actorder: "group" }), /activation order 'group'/],
    ["compressed-tensors", { config_groups: {} }, /0 groups of settings/],
    ["compressed-tensors", { kv_cache_scheme: { num_bits: 8 } }, /kv_cache_scheme/],
    ["compressed-tensors", group({ num_bits: 8 }), /weight/],
  ])("%s with %j", async (kind, change, message) => {
    const folder = await changedCopy(kind, { settings: change });
    await expect(readAll(folder)).rejects.toThrow(
      expect.objectContaining({
        code: "unsupported_model",
        message: expect.stringMatching(message),
      }),
    );
  });

  test.each([
    ["gptq-act-order", { dynamic: { "-:.*lm_head.*": {} }, sym: true }],
    ["gptq-act-order", { checkpoint_format: undefined, format: undefined }],
    [
      "awq",
      { bits: undefined, w_bit: 4, group_size: undefined, q_group_size: 32, version: "GEMM" },
    ],
    ["compressed-tensors", group({ symmetric: false, actorder: "weight" })],
  ])("%s with %j is read", async (kind, change) => {
    await readAll(await changedCopy(kind, { settings: change }));
  });
});

test("symmetric levels of compressed-tensors have their zero in the middle", async () => {
  const weights = { num_bits: 4, symmetric: true, strategy: "group", group_size: 32 };
  const folder = await changedCopy("compressed-tensors", {
    settings: { config_groups: { group_0: { weights } } },
  });
  const stored = parseSafetensors(await readFile(join(folder, "model.safetensors")));
  await rewrite(folder, (tensors) =>
    Object.fromEntries(Object.entries(tensors).filter(([name]) => !name.endsWith("_zero_point"))),
  );
  const packed = stored.tensors.get(`${keyMatrix}.weight_packed`)!;
  const scale = stored.tensors.get(`${keyMatrix}.weight_scale`)!;
  await withWeights(folder, async (files) => {
    const [first, second] = await files.read(`${keyMatrix}.weight`, 0, 1);
    const [low, high] = [stored.bytes[packed.begin]! & 15, stored.bytes[packed.begin]! >> 4];
    const half = stored.bytes[scale.begin]! | (stored.bytes[scale.begin + 1]! << 8);
    const value = (1 + (half & 1023) / 1024) * 2 ** ((half >> 10) - 15);
    expect([first, second]).toEqual([value * (low - 8), value * (high - 8)]);
  });
});

async function readAll(folder: string): Promise<void> {
  const { spec } = await openModelSource(folder);
  await withWeights(folder, async (weights) => {
    checkShapes(weights, spec);
    for (const name of weights.names()) await weights.read(name);
  });
}

async function withWeights(
  folder: string,
  use: (weights: WeightFiles) => Promise<void>,
): Promise<void> {
  const weights = await (await openModelSource(folder)).openWeights();
  try {
    await use(weights);
  } finally {
    await weights.close();
  }
}

async function changedCopy(
  kind: string,
  {
    settings,
    tensor,
    change,
  }: {
    settings?: object;
    tensor?: string;
    change?: (tensor: TestTensor) => TestTensor | undefined;
  },
): Promise<string> {
  const folder = await mkdtemp(join(work, "model-"));
  await cp(join(fixtures, kind), folder, { recursive: true });
  const config = JSON.parse(await readFile(join(folder, "config.json"), "utf8"));
  const quantization_config = { ...config.quantization_config, ...settings };
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, quantization_config }));
  await rewrite(folder, (tensors) => {
    if (tensor === undefined || change === undefined) return tensors;
    const { [tensor]: old, ...rest } = tensors;
    const changed = change(old!);
    return changed ? { ...rest, [tensor]: changed } : rest;
  });
  return folder;
}

async function rewrite(
  folder: string,
  change: (tensors: Record<string, TestTensor>) => Record<string, TestTensor>,
): Promise<void> {
  const path = join(folder, "model.safetensors");
  const { tensors, bytes } = parseSafetensors(await readFile(path));
  const all = [...tensors.values()].map(({ name, dtype, shape, begin, end }) => [
    name,
    { dtype, shape: [...shape], bytes: bytes.slice(begin, end) },
  ]);
  await writeFile(path, safetensorsBytes(change(Object.fromEntries(all))));
}

/** The same tensor with other bytes at its start. */
function patched(start: Uint8Array): (tensor: TestTensor) => TestTensor {
  return (tensor) => {
    const bytes = new Uint8Array(tensor.bytes);
    bytes.set(start);
    return { ...tensor, bytes };
  };
}

function shaped(shape: number[]): (tensor: TestTensor) => TestTensor {
  return (tensor) => ({ ...tensor, shape });
}

function typed(dtype: TestTensor["dtype"]): (tensor: TestTensor) => TestTensor {
  return (tensor) => ({ ...tensor, dtype });
}

function emptied(tensor: TestTensor): TestTensor {
  return { ...tensor, shape: [0, 32], bytes: new Uint8Array() };
}
