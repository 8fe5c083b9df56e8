/**
 * Gemma 3, text only: local layers with a rope of their own among global ones, norms before and after
 * both parts of a block and over every query and key head, GELU, a scaled embedding.
 */
import { z } from "zod";
import type { Family, LayerTensors } from "../model-spec.ts";
import {
  attentionOf,
  commonConfig,
  commonSpec,
  layerTypes,
  localLayers,
  parseConfig,
  ropeOf,
  ropeParameters,
  withAttentions,
} from "./common.ts";

export const gemma3: Family = {
  architecture: "Gemma3ForCausalLM",
  readSpec(config) {
    const data = parseConfig(gemma3Config, config);
    const { rope_parameters: ropes, ...older } = data;
    // Before transformers 5 scaling was for global layers only.
    const globalRope = ropeOf({ ...older, rope_parameters: ropes?.full_attention });
    const localRope = ropes
      ? ropeOf({
          ...older,
          rope_theta: data.rope_local_base_freq,
          rope_parameters: ropes.sliding_attention,
        })
      : { theta: data.rope_local_base_freq, scaling: { type: "default" as const } };

    const { tensors, ...common } = commonSpec("gemma3", { ...older, rope_parameters: undefined });
    const pattern = data.sliding_window_pattern ?? data._sliding_window_pattern;
    const isLocal = (layer: number) => (layer + 1) % pattern !== 0;
    const local = localLayers(common.dims.layers, data.layer_types, isLocal);
    const headScalar = data.query_pre_attn_scalar;
    const spec = { ...common, tensors };
    const attentions = [
      attentionOf(spec, globalRope, { headScalar }),
      attentionOf(spec, localRope, { headScalar, window: data.sliding_window }),
    ];
    return {
      ...withAttentions(spec, attentions, local.map(Number)),
      normOffset: 1,
      embeddingScale: Math.sqrt(common.dims.hiddenSize),
      activation: "gelu-tanh",
      logitCap: data.final_logit_softcapping ?? undefined,
      tensors: { ...tensors, layer: (index) => withNorms(tensors.layer(index), index) },
    };
  },
};

function withNorms(layer: LayerTensors, index: number): LayerTensors {
  const name = `model.layers.${index}`;
  return {
    ...layer,
    headNorms: {
      query: `${name}.self_attn.q_norm.weight`,
      key: `${name}.self_attn.k_norm.weight`,
    },
    feedForwardNorm: `${name}.pre_feedforward_layernorm.weight`,
    outputNorms: {
      attention: `${name}.post_attention_layernorm.weight`,
      feedForward: `${name}.post_feedforward_layernorm.weight`,
    },
  };
}

const gemma3Config = commonConfig.omit({ hidden_act: true }).extend({
  hidden_activation: z.literal("gelu_pytorch_tanh").default("gelu_pytorch_tanh"),
  head_dim: z
    .int()
    .positive()
    .max(1 << 24)
    .default(256),
  query_pre_attn_scalar: z.number().positive().default(256),
  sliding_window: z.int().positive().default(4096),
  sliding_window_pattern: z.int().positive().optional(),
  _sliding_window_pattern: z.int().positive().default(6),
  layer_types: layerTypes,
  rope_theta: z.number().positive().default(1_000_000),
  rope_local_base_freq: z.number().positive().default(10_000),
  rope_parameters: z
    .strictObject({ full_attention: ropeParameters, sliding_attention: ropeParameters })
    .nullish(),
  final_logit_softcapping: z.number().positive().nullish(),
  tie_word_embeddings: z.boolean().default(true),
  attn_logit_softcapping: z.null().optional(),
  use_bidirectional_attention: z.literal(false).nullish(),
});
