import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  buildAdapter,
  type TestTensor,
  tinyShape,
  writeSafetensors,
} from "../../../test/support/adapter.ts";
import type { BaseShape } from "../catalog.ts";
import { type ErrorCode, HubError } from "../errors.ts";
import { checkAdapter } from "./check-adapter.ts";
import { parseSafetensors, readTensor } from "./safetensors.ts";

const check = (files: { config: Uint8Array; weights: Uint8Array }, baseNames?: string[]) =>
  checkAdapter({ ...files, shape: tinyShape, rankMax: 16, baseNames });

describe("checkAdapter", () => {
  test("gives every layer its pairs, ranks and scalings", () => {
    const checked = check(buildAdapter({ rank: 4 }), ["test/tiny-base"]);
    expect(checked.rank).toBe(4);
    expect(checked.targetModules).toEqual(["q_proj", "v_proj"]);
    expect(checked.layers).toHaveLength(2);
    const pair = checked.layers[1]?.v_proj;
    expect(pair).toMatchObject({ rank: 4, scaling: 2, a: { shape: [4, 8] }, b: { shape: [4, 4] } });
    expect(readTensor(checked.weights.bytes, pair!.a)).toHaveLength(32);
  });

  test("rsLoRA divides alpha by the root of the rank, after patterns", () => {
    const config = { use_rslora: true, alpha_pattern: { "1.self_attn.q_proj": 6 } };
    const { layers } = check(buildAdapter({ rank: 4, config }));
    expect(layers[0]?.q_proj?.scaling).toBe(4);
    expect(layers[1]?.q_proj?.scaling).toBe(3);
  });

  test.each(["lora_magnitude_vector", "lora_magnitude_vector.weight"])(
    "DoRA has a magnitude for every output of a module, called %s",
    (magnitudes) => {
      const { layers } = check(buildAdapter({ magnitudes }));
      expect(layers[1]?.v_proj?.magnitude).toMatchObject({ shape: [4] });
      expect(layers[0]?.q_proj?.magnitude).toMatchObject({ shape: [8] });
      expect(check(buildAdapter()).layers[0]?.q_proj).not.toHaveProperty("magnitude");
    },
  );

  test.each<[string, Parameters<typeof buildAdapter>[0], string]>([
    [
      "magnitudes that the config does not speak of",
      { magnitudes: "lora_magnitude_vector", config: { use_dora: false } },
      "no place for 'base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector'",
    ],
    [
      "magnitudes of another name",
      { magnitudes: "lora_magnitude_vector.default" },
      "'base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector' is not among",
    ],
  ])("refuses %s", (_, adapter, message) => {
    expect(refusal(() => check(buildAdapter(adapter)))).toEqual({
      code: "invalid_adapter",
      message: expect.stringContaining(message),
    });
  });

  test.each<[string, (tensor: TestTensor) => TestTensor, string]>([
    ["too few", (it) => ({ ...it, shape: [3], values: it.values.slice(0, 3) }), "need [4]"],
    ["in two axes", (it) => ({ ...it, shape: [1, 4] }), "has shape [1, 4]"],
    ["not a number", (it) => ({ ...it, values: it.values.with(2, Number.NaN) }), "index 2"],
  ])("refuses magnitudes that are %s", (_, change, message) => {
    const name = "base_model.model.model.layers.1.self_attn.v_proj.lora_magnitude_vector";
    const { config, weights } = buildAdapter({ magnitudes: "lora_magnitude_vector" });
    const file = parseSafetensors(weights);
    const tensors = [...file.tensors.values()].map((entry) => {
      const values = readTensor(weights, entry) as Float32Array<ArrayBuffer>;
      const tensor = { name: entry.name, shape: [...entry.shape], values };
      return entry.name === name ? change(tensor) : tensor;
    });
    expect(refusal(() => check({ config, weights: writeSafetensors(tensors) }))).toEqual({
      code: "invalid_adapter",
      message: expect.stringContaining(message),
    });
  });

  test.each<[string, Record<string, unknown>, ErrorCode, string]>([
    ["DoRA without its tensors", { use_dora: true }, "invalid_adapter", "lora_magnitude_vector"],
    ["text for DoRA's switch", { use_dora: "true" }, "invalid_adapter", "use_dora"],
    ["saved modules", { modules_to_save: ["lm_head"] }, "unsupported_adapter", "modules_to_save"],
    ["a later option", { use_future_trick: 1 }, "unsupported_adapter", "use_future_trick"],
    ["another PEFT method", { peft_type: "IA3" }, "unsupported_adapter", "peft_type"],
    ["another task", { task_type: "SEQ_CLS" }, "unsupported_adapter", "task_type"],
    ["biases", { bias: "all" }, "unsupported_adapter", "bias"],
    [
      "an init that changes the base",
      { init_lora_weights: "pissa" },
      "unsupported_adapter",
      "init_lora_weights",
    ],
    ["a lookahead", { target_modules: "(?=q)" }, "unsupported_adapter", "target_modules"],
    ["text for a number", { r: "2" }, "invalid_adapter", "'r'"],
    ["text for a switch", { use_rslora: "false" }, "invalid_adapter", "use_rslora"],
    ["a negative alpha", { lora_alpha: -1 }, "invalid_adapter", "lora_alpha"],
    ["a rank that no slot holds", { r: 17 }, "adapter_rank_too_large", "at most 16"],
    ["another rank than the tensors'", { r: 3 }, "invalid_adapter", "shape [2, 8]"],
    [
      "a target without tensors",
      { target_modules: ["q_proj", "up_proj"] },
      "invalid_adapter",
      "up_proj.lora_A",
    ],
    [
      "tensors without a target",
      { target_modules: ["q_proj"] },
      "invalid_adapter",
      "v_proj.lora_A",
    ],
  ])("refuses %s by name", (_, config, code, message) => {
    expect(refusal(() => check(buildAdapter({ config })))).toEqual({
      code,
      message: expect.stringContaining(message),
    });
  });

  test.each([Number.NaN, Infinity, -Infinity, 10_001, -1e30])(
    "refuses the value %s wherever it hides",
    (value) => {
      const { config, weights } = buildAdapter();
      new DataView(weights.buffer).setFloat32(weights.length - 4, value, true);
      const { code, message } = refusal(() => check({ config, weights }));
      expect(code).toBe("invalid_adapter");
      expect(message).toContain("index 7");
    },
  );

  test("accepts the largest allowed value", () => {
    const { config, weights } = buildAdapter();
    new DataView(weights.buffer).setFloat32(weights.length - 4, -10_000, true);
    expect(check({ config, weights }).rank).toBe(2);
  });

  test("the base's name is compared as text, and by its folder where it is a local path", () => {
    const named = (name: string | null) =>
      buildAdapter({ config: { base_model_name_or_path: name } });
    const names = ["test/tiny-base"];
    expect(check(named("test/tiny-base"), names).rank).toBe(2);
    expect(check(named("/data/models/tiny-base/"), names).rank).toBe(2);
    expect(check(named(null), names).rank).toBe(2);
    expect(refusal(() => check(named("other/tiny-base"), names)).code).toBe(
      "adapter_base_mismatch",
    );
    expect(refusal(() => check(named("../../etc/passwd"), names)).code).toBe(
      "adapter_base_mismatch",
    );
  });

  test("an adapter that changes nothing is refused", () => {
    const config = { target_modules: ["query_key_value"] };
    const weights = writeSafetensors([]);
    const { code } = refusal(() => check({ config: buildAdapter({ config }).config, weights }));
    expect(code).toBe("invalid_adapter");
  });

  test("throws nothing but HubError for any config", () => {
    const { weights } = buildAdapter();
    const fields = [
      "r",
      "lora_alpha",
      "target_modules",
      "rank_pattern",
      "alpha_pattern",
      "__proto__",
      "layers_to_transform",
      "exclude_modules",
      "bias",
    ];
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...fields), fc.jsonValue()), (config) => {
        try {
          check({ config: buildAdapter({ config }).config, weights });
        } catch (error) {
          expect(error).toBeInstanceOf(HubError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe("adapters saved by PEFT and then damaged", () => {
  const shape: BaseShape = {
    family: "llama",
    layers: 3,
    hiddenSize: 128,
    vocabSize: 640,
    modules: {
      q_proj: { in: 128, out: 128 },
      k_proj: { in: 128, out: 32 },
      v_proj: { in: 128, out: 32 },
      o_proj: { in: 128, out: 128 },
      gate_proj: { in: 128, out: 160 },
      up_proj: { in: 128, out: 160 },
      down_proj: { in: 160, out: 128 },
    },
    trainedAs: ["fixtures/llama-gqa"],
  };
  const load = (name: string) => {
    const read = (file: string) =>
      readFileSync(new URL(`__fixtures__/${name}/${file}`, import.meta.url));
    const files = {
      config: read("adapter_config.json"),
      weights: read("adapter_model.safetensors"),
    };
    return checkAdapter({ ...files, shape, rankMax: 64, baseNames: shape.trainedAs });
  };

  test("the undamaged one is accepted", () => {
    expect(load("control-valid")).toMatchObject({ rank: 2, targetModules: ["q_proj", "v_proj"] });
  });

  test.each<[string, ErrorCode, string]>([
    ["c-duplicate-keys", "invalid_adapter", "'r' twice"],
    ["c-target-modules-redos", "invalid_adapter", "no place for"],
    ["c-use-dora-without-vectors", "invalid_adapter", "lora_magnitude_vector"],
    ["st-duplicate-tensor-keys", "invalid_adapter", "twice"],
    ["st-header-claims-u64-max", "invalid_adapter", "claims 18446744073709551615"],
    ["st-overlapping-tensors", "invalid_adapter", "overlapping"],
    ["st-shape-product-wraps", "invalid_adapter", "needs"],
    ["w-missing-layer", "invalid_adapter", "layers.2.self_attn.q_proj.lora_A"],
    ["w-nan", "invalid_adapter", "not finite"],
    ["w-overflows-when-multiplied", "invalid_adapter", "beyond ±10000"],
    ["w-unknown-extra-tensor", "invalid_adapter", "no place for"],
  ])("%s is refused: %s, %s", (name, code, message) => {
    expect(refusal(() => load(name))).toEqual({ code, message: expect.stringContaining(message) });
  });
});

function refusal(action: () => unknown): { code: ErrorCode; message: string } {
  try {
    action();
  } catch (error) {
    if (error instanceof HubError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("expected a refusal");
}
