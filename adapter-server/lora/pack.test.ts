import { describe, expect, test } from "vitest";
import { checkAdapter } from "../../sdk/protocol/adapter/check-adapter.ts";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import {
  bfloat16Tensor,
  float32Tensor,
  safetensorsBytes,
  type TestTensor,
} from "../__fixtures__/safetensors.ts";
import type { LoraPair, PackedAdapter } from "../engine/types.ts";
import type { ScaleByMagnitude } from "./dora.ts";
import { mixAdapters, packAdapter } from "./pack.ts";

const shape: BaseShape = {
  family: "llama",
  layers: 2,
  hiddenSize: 2,
  vocabSize: 4,
  modules: { q_proj: { in: 2, out: 3 }, v_proj: { in: 2, out: 3 } },
  trainedAs: [],
};

describe("packing", () => {
  test("lays B out by rank and folds alpha / rank into it", async () => {
    const packed = await pack({ r: 2, lora_alpha: 6, layers_to_transform: [1] }, [
      float32Tensor([2, 2], [1, 2, 3, 4]),
      float32Tensor([3, 2], [1, 2, 3, 4, 5, 6]),
    ]);
    expect(packed.rank).toBe(2);
    expect(packed.layers).toEqual([
      {},
      {
        q_proj: {
          a: Float32Array.of(1, 2, 3, 4),
          b: Float32Array.of(3, 9, 15, 6, 12, 18),
          rank: 2,
        },
      },
    ]);
  });

  test("turns bfloat16 into the same numbers in float32", async () => {
    const packed = await pack({ r: 1, lora_alpha: 1, layers_to_transform: [1] }, [
      bfloat16Tensor([1, 2], [0.5, -1.25]),
      bfloat16Tensor([3, 1], [3, -0.375, 128]),
    ]);
    expect(packed.layers[1]!.q_proj).toEqual({
      a: Float32Array.of(0.5, -1.25),
      b: Float32Array.of(3, -0.375, 128),
      rank: 1,
    });
  });

  test("hands a pair of DoRA and its magnitudes to what knows the base, and keeps what it makes of them", async () => {
    const dora = { r: 1, lora_alpha: 2, layers_to_transform: [1], use_dora: true };
    const tensors: [TestTensor, TestTensor, TestTensor] = [
      float32Tensor([1, 2], [1, 2]),
      float32Tensor([3, 1], [1, 2, 3]),
      float32Tensor([3], [4, 5, 6]),
    ];
    const packed = await pack(dora, tensors, async (pair, gain, at) => {
      expect(at).toEqual({ layer: 1, module: "q_proj" });
      expect(pair.b).toEqual(Float32Array.of(2, 4, 6));
      expect(gain).toEqual(Float32Array.of(4, 5, 6));
      gain.set([0.5, 0, -0.5]);
      pair.b[0] = 3;
    });
    expect(packed.layers[1]!.q_proj).toEqual({
      a: Float32Array.of(1, 2),
      b: Float32Array.of(3, 4, 6),
      rank: 1,
      gain: Float32Array.of(0.5, 0, -0.5),
    });
    await expect(pack(dora, tensors)).rejects.toMatchObject({
      code: "unsupported_adapter",
      param: "use_dora",
    });
  });
});

describe("a mix", () => {
  const first = adapter([{ q_proj: pair([1, 2], [1, 0, 2]) }, {}]);
  const second = adapter([
    { q_proj: pair([3, 4, 5, 6], [1, 1, 1, 2, 2, 2]), v_proj: pair([1, 1], [7, 8, 9]) },
    {},
  ]);

  test("is the weighted sum of its adapters' updates, with their ranks added up", () => {
    const mix = mixAdapters(
      [
        { adapter: first, weight: 0.5 },
        { adapter: second, weight: -2 },
      ],
      { digest: "mix", rankMax: 3 },
    );
    expect(mix.digest).toBe("mix");
    expect(mix.rank).toBe(3);
    const expected = update(first.layers[0]!.q_proj!).map(
      (value, i) => 0.5 * value - 2 * update(second.layers[0]!.q_proj!)[i]!,
    );
    expect(update(mix.layers[0]!.q_proj!)).toEqual(expected);
    expect(mix.layers[0]!.v_proj!.b).toEqual(Float32Array.of(-14, -16, -18));
    expect(mix.layers[1]).toEqual({});
  });

  test("adds gains up by weight, where a part has any", () => {
    const gained = (gain: number[], of: LoraPair) => ({ ...of, gain: Float32Array.from(gain) });
    const one = adapter([{ q_proj: gained([1, 2, -4], pair([1, 2], [1, 0, 2])) }, {}]);
    const other = adapter([{ q_proj: gained([0, 1, 1], pair([1, 2], [1, 0, 2])) }, {}]);
    const parts = [
      { adapter: first, weight: 3 },
      { adapter: one, weight: 0.5 },
      { adapter: second, weight: 1 },
      { adapter: other, weight: -1 },
    ];
    const mix = mixAdapters(parts, { digest: "mix", rankMax: 8 });
    expect(mix.layers[0]!.q_proj!.gain).toEqual(Float32Array.of(0.5, 0, -3));
    expect(mix.layers[0]!.v_proj).not.toHaveProperty("gain");
  });

  test("that does not fit a slot is refused with both numbers", () => {
    const parts = [first, second].map((part) => ({ adapter: part, weight: 1 }));
    expect(() => mixAdapters(parts, { digest: "mix", rankMax: 2 })).toThrow(
      expect.objectContaining({
        code: "adapter_rank_too_large",
        message: expect.stringMatching(/rank 3.*holds 2/),
      }),
    );
  });
});

function pack(
  config: object,
  [a, b, magnitude]: [TestTensor, TestTensor, TestTensor?],
  scale?: ScaleByMagnitude,
): Promise<PackedAdapter> {
  const module = "base_model.model.model.layers.1.self_attn.q_proj";
  const weights = safetensorsBytes({
    [`${module}.lora_A.weight`]: a,
    [`${module}.lora_B.weight`]: b,
    ...(magnitude && { [`${module}.lora_magnitude_vector`]: magnitude }),
  });
  const json = { peft_type: "LORA", task_type: "CAUSAL_LM", target_modules: ["q_proj"], ...config };
  const checked = checkAdapter({
    config: new TextEncoder().encode(JSON.stringify(json)),
    weights,
    shape,
    rankMax: 8,
  });
  return packAdapter(checked, "digest", { scale });
}

function pair(a: number[], b: number[]): LoraPair {
  return { a: Float32Array.from(a), b: Float32Array.from(b), rank: a.length / 2 };
}

function adapter(layers: PackedAdapter["layers"]): PackedAdapter {
  const ranks = layers.flatMap((layer) => Object.values(layer).map(({ rank }) => rank));
  return { digest: "part", rank: Math.max(...ranks), layers };
}

/** B·A, `[3, 2]`. */
function update({ a, b, rank }: LoraPair): number[] {
  return [0, 1, 2].flatMap((out) =>
    [0, 1].map((column) => {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += b[k * 3 + out]! * a[k * 2 + column]!;
      return sum;
    }),
  );
}
