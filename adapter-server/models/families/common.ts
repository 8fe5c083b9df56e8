/**
 * The block that all families share, and how its config.json is read: RMSNorm, rotary positions, grouped
 * queries, a gated feed-forward part, no biases. A family's own file says what it does differently.
 */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { Attention, LayerTensors, ModelSpec, Rope, RopeScaling } from "../model-spec.ts";
import { attentionFactor } from "../rope.ts";

/** @throws HubError `unsupported_model` that names the field */
export function parseConfig<T>(schema: z.ZodType<T>, config: unknown): T {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  throw unsupported(z.prettifyError(parsed.error));
}

/** The spec of a model whose blocks are the common ones, all of them attending to everything. */
export function commonSpec(family: string, config: Omit<CommonConfig, "hidden_act">): ModelSpec {
  const heads = config.num_attention_heads;
  const keyValueHeads = config.num_key_value_heads ?? heads;
  if (heads % keyValueHeads !== 0) {
    throw unsupported(`${heads} query heads cannot share ${keyValueHeads} key/value heads.`);
  }
  const headDim = config.head_dim ?? config.hidden_size / heads;
  if (headDim % 2 !== 0) {
    throw unsupported(`head_dim is ${headDim}; rotary positions need an even number.`);
  }
  const layers = config.num_hidden_layers;
  const spec: ModelSpec = {
    family,
    dims: {
      layers,
      hiddenSize: config.hidden_size,
      intermediateSize: config.intermediate_size,
      heads,
      keyValueHeads,
      headDim,
      vocabSize: config.vocab_size,
      contextLength: config.max_position_embeddings,
      windows: [],
      fusedModules: false,
    },
    normEpsilon: config.rms_norm_eps,
    normOffset: 0,
    embeddingScale: 1,
    activation: "silu",
    attentions: [],
    layerAttention: [],
    logitCap: undefined,
    tiedEmbedding: config.tie_word_embeddings,
    endTokenIds: [config.eos_token_id ?? []].flat(),
    knownAs: config._name_or_path ? [config._name_or_path] : [],
    tensors: {
      embedding: "model.embed_tokens.weight",
      finalNorm: "model.norm.weight",
      output: "lm_head.weight",
      layer: (index) => commonLayer(spec, `model.layers.${index}`),
    },
  };
  return withAttentions(spec, [attentionOf(spec, ropeOf(config))], new Array(layers).fill(0));
}

/**
 * The same spec with other ways to attend, less those that no layer uses.
 * @param layerAttention for each layer, which of `attentions` it uses
 */
export function withAttentions(
  spec: ModelSpec,
  attentions: readonly Attention[],
  layerAttention: readonly number[],
): ModelSpec {
  const used = attentions.filter((_, attention) => layerAttention.includes(attention));
  const places = attentions.map((attention) => used.indexOf(attention));
  return {
    ...spec,
    attentions: used,
    layerAttention: layerAttention.map((attention) => places[attention] ?? 0),
    dims: { ...spec.dims, windows: used.map(({ window }) => window) },
  };
}

/** @param window positions that a token attends to, itself included; all when there is none */
export function attentionOf(
  { dims }: ModelSpec,
  rope: Rope,
  { window, headScalar = dims.headDim }: { window?: number | null; headScalar?: number } = {},
): Attention {
  const scale = attentionFactor(rope) ** 2 / Math.sqrt(headScalar);
  return { rope, scale, window: window ?? Number.POSITIVE_INFINITY };
}

/**
 * Local layers among global ones: in `layer_types` since transformers 4.53, by a rule of the family before.
 * @returns for each layer whether it is local
 */
export function localLayers(
  layers: number,
  layerTypes: readonly string[] | null | undefined,
  isLocal: (layer: number) => boolean,
): boolean[] {
  if (!layerTypes) return Array.from({ length: layers }, (_, layer) => isLocal(layer));
  if (layerTypes.length !== layers) {
    throw unsupported(`layer_types has ${layerTypes.length} entries for ${layers} layers.`);
  }
  return layerTypes.map((type) => type === "sliding_attention");
}

/** All local, all global, or a mixture, with one rope for both. */
export function withLocalLayers(
  spec: ModelSpec,
  rope: Rope,
  { window, local }: { window: number | null | undefined; local: readonly boolean[] },
): ModelSpec {
  if (!local.includes(true)) return spec;
  if (!window) throw unsupported("there are sliding layers, but no sliding_window.");
  // A window that the context never leaves is none.
  if (window >= spec.dims.contextLength) return spec;
  const sliding = attentionOf(spec, rope, { window });
  if (!local.includes(false)) return withAttentions(spec, [sliding], spec.layerAttention);
  return withAttentions(spec, [attentionOf(spec, rope), sliding], local.map(Number));
}

/** Both spellings: fields of their own and `rope_scaling` before transformers 5, `rope_parameters` since. */
export function ropeOf(config: RopeFields): Rope {
  const parameters = config.rope_parameters ?? config.rope_scaling ?? {};
  return {
    theta: parameters.rope_theta ?? config.rope_theta ?? 10_000,
    scaling: toRopeScaling(parameters, config.max_position_embeddings),
  };
}

function unsupported(message: string): HubError {
  return new HubError("unsupported_model", `config.json: ${message}`);
}

function commonLayer({ dims }: ModelSpec, layer: string): LayerTensors {
  const queryRows = dims.heads * dims.headDim;
  const keyRows = dims.keyValueHeads * dims.headDim;
  return {
    inputNorm: `${layer}.input_layernorm.weight`,
    qkv: [
      { tensor: `${layer}.self_attn.q_proj.weight`, rows: queryRows },
      { tensor: `${layer}.self_attn.k_proj.weight`, rows: keyRows },
      { tensor: `${layer}.self_attn.v_proj.weight`, rows: keyRows },
    ],
    qkvBias: [],
    headNorms: undefined,
    attentionOutput: `${layer}.self_attn.o_proj.weight`,
    feedForwardNorm: `${layer}.post_attention_layernorm.weight`,
    gateUp: [
      { tensor: `${layer}.mlp.gate_proj.weight`, rows: dims.intermediateSize },
      { tensor: `${layer}.mlp.up_proj.weight`, rows: dims.intermediateSize },
    ],
    down: `${layer}.mlp.down_proj.weight`,
    outputNorms: undefined,
  };
}

function toRopeScaling(rope: RopeParameters, contextLength: number): RopeScaling {
  const type = rope.rope_type ?? rope.type ?? "default";
  const { factor } = rope;
  if (type === "default") return { type };
  if (type === "linear" && factor !== undefined) return { type, factor };
  if (type === "yarn" && factor !== undefined) {
    return {
      type,
      factor,
      originalContextLength: rope.original_max_position_embeddings ?? contextLength,
      turnsFast: rope.beta_fast ?? 32,
      turnsSlow: rope.beta_slow ?? 1,
      attentionFactor: rope.attention_factor ?? undefined,
      truncate: rope.truncate ?? true,
    };
  }
  if (
    type === "llama3" &&
    factor !== undefined &&
    rope.low_freq_factor !== undefined &&
    rope.high_freq_factor !== undefined &&
    rope.original_max_position_embeddings !== undefined
  ) {
    return {
      type,
      factor,
      lowFrequencyFactor: rope.low_freq_factor,
      highFrequencyFactor: rope.high_freq_factor,
      originalContextLength: rope.original_max_position_embeddings,
    };
  }
  throw unsupported(
    `rope type '${type}' with these parameters is not supported; default, linear, llama3 and yarn are.`,
  );
}

/** Strict, because every field changes the numbers. */
export const ropeParameters = z.strictObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().positive().optional(),
  partial_rotary_factor: z.literal(1).optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: z.int().positive().optional(),
  attention_factor: z.number().positive().nullish(),
  beta_fast: z.number().positive().nullish(),
  beta_slow: z.number().positive().nullish(),
  truncate: z.boolean().optional(),
});
type RopeParameters = z.infer<typeof ropeParameters>;

/** No model comes near these; beyond them a number is a mistake or a trap, since we make room by them. */
const size = z
  .int()
  .positive()
  .max(1 << 24);
const ropeFields = {
  max_position_embeddings: z
    .int()
    .positive()
    .max(1 << 27),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeParameters.nullish(),
  rope_parameters: ropeParameters.nullish(),
};
type RopeFields = z.infer<z.ZodObject<typeof ropeFields>>;

/** What all families' config.json have in common. */
export const commonConfig = z.object({
  num_hidden_layers: z.int().positive().max(1024),
  hidden_size: size,
  intermediate_size: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
  rms_norm_eps: z.number().positive(),
  ...ropeFields,
  tie_word_embeddings: z.boolean().default(false),
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  _name_or_path: z.string().nullish(),
  // Options that change the numbers and that we do not compute are refused, never ignored.
  hidden_act: z.literal("silu").default("silu"),
  attention_bias: z.literal(false).default(false),
  mlp_bias: z.literal(false).default(false),
  partial_rotary_factor: z.literal(1).optional(),
  quantization_config: z.null().optional(),
});
type CommonConfig = z.infer<typeof commonConfig>;

/** `layer_types` of families that may mix local and global layers. */
export const layerTypes = z.array(z.enum(["full_attention", "sliding_attention"])).nullish();
