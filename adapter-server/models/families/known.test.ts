/** How each family reads its config.json: who attends to what, and what is refused. */
import { expect, test } from "vitest";
import { familyOf } from "./known.ts";

const common = {
  num_hidden_layers: 4,
  hidden_size: 64,
  intermediate_size: 96,
  num_attention_heads: 4,
  vocab_size: 100,
  rms_norm_eps: 1e-6,
  max_position_embeddings: 512,
};

function specOf(architecture: string, fields: object) {
  const config = { architectures: [architecture], ...common, ...fields };
  return familyOf(config).readSpec(config);
}

/** For each layer, how far it sees. */
function windowsOf(architecture: string, fields: object): number[] {
  const { layerAttention, attentions } = specOf(architecture, fields);
  return layerAttention.map((attention) => attentions[attention]?.window ?? 0);
}

const all = Infinity;

test.each([
  ["MistralForCausalLM", { sliding_window: 24 }, [24, 24, 24, 24]],
  ["MistralForCausalLM", { sliding_window: null }, [all, all, all, all]],
  ["Phi3ForCausalLM", { sliding_window: 100 }, [100, 100, 100, 100]],
  ["Qwen2ForCausalLM", { sliding_window: 24, max_window_layers: 1 }, [all, all, all, all]],
  [
    "Qwen2ForCausalLM",
    { use_sliding_window: true, sliding_window: 24, max_window_layers: 3 },
    [all, all, all, 24],
  ],
  [
    "Qwen3ForCausalLM",
    {
      use_sliding_window: true,
      sliding_window: 24,
      layer_types: [
        "sliding_attention",
        "full_attention",
        "sliding_attention",
        "sliding_attention",
      ],
    },
    [24, all, 24, 24],
  ],
  ["Gemma3ForCausalLM", { sliding_window: 16 }, [16, 16, 16, 16]],
  ["Gemma3ForCausalLM", { sliding_window: 16, sliding_window_pattern: 2 }, [16, all, 16, all]],
])("%s with %j sees this far in each layer", (architecture, fields, windows) => {
  expect(windowsOf(architecture, fields)).toEqual(windows);
});

test("a window as long as the context is none, and costs nothing", () => {
  const spec = specOf("MistralForCausalLM", { sliding_window: 512 });
  expect(spec.dims.windows).toEqual([all]);
});

test("gemma3 turns local layers by a base of their own, and stretches only global ones", () => {
  const rope = (fields: object) =>
    specOf("Gemma3ForCausalLM", { sliding_window_pattern: 2, sliding_window: 16, ...fields })
      .attentions.map(({ rope }) => rope)
      .sort((a, b) => a.theta - b.theta);
  const local = { theta: 10_000, scaling: { type: "default" } };
  const global = { theta: 1_000_000, scaling: { type: "linear", factor: 8 } };
  const linear = { rope_type: "linear", factor: 8 };
  expect(rope({ rope_scaling: linear })).toEqual([local, global]);
  const rope_parameters = {
    full_attention: { ...linear, rope_theta: 1_000_000 },
    sliding_attention: { rope_type: "default", rope_theta: 10_000 },
  };
  expect(rope({ rope_parameters })).toEqual([local, global]);
});

test.each([
  ["MixtralForCausalLM", {}, /'MixtralForCausalLM'.*Qwen3ForCausalLM/],
  ["Gemma3ForConditionalGeneration", {}, /'Gemma3ForConditionalGeneration'/],
  ["Phi3ForCausalLM", { partial_rotary_factor: 0.75 }, /partial_rotary_factor/],
  ["Phi3ForCausalLM", { rope_scaling: { type: "longrope", long_factor: [1] } }, /long_factor/],
  ["Phi3ForCausalLM", { rope_scaling: { type: "su" } }, /rope type 'su'/],
  ["Qwen3ForCausalLM", { attention_bias: true }, /attention_bias/],
  [
    "Qwen2ForCausalLM",
    { use_sliding_window: true, sliding_window: 8, layer_types: [] },
    /layer_types has 0 entries for 4/,
  ],
  ["Gemma3ForCausalLM", { attn_logit_softcapping: 50 }, /attn_logit_softcapping/],
  ["Gemma3ForCausalLM", { use_bidirectional_attention: true }, /use_bidirectional_attention/],
])("%s with %j is refused by name", (architecture, fields, message) => {
  expect(() => specOf(architecture, fields)).toThrow(
    expect.objectContaining({
      code: "unsupported_model",
      message: expect.stringMatching(message),
    }),
  );
});
