/** What a GGUF file's metadata says of the model, in the terms of Hugging Face's `config.json`. */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { GgufValue } from "./header.ts";

/**
 * @param vocabSize      rows of the embedding, which the metadata need not name
 * @param tiedEmbedding  whether the file has no output matrix of its own
 * @returns what a family's `readSpec` takes
 * @throws HubError `unsupported_model` that names the key
 */
export function toConfig(
  metadata: ReadonlyMap<string, GgufValue>,
  { vocabSize, tiedEmbedding }: { vocabSize: number; tiedEmbedding: boolean },
): Record<string, unknown> {
  const name = metadata.get("general.architecture");
  const architecture = architectures.find((known) => known.name === name);
  if (!architecture) {
    const known = architectures.map((each) => each.name).join(", ");
    throw new HubError(
      "unsupported_model",
      `The GGUF file's architecture '${String(name).slice(0, 40)}' is not supported; known are ${known}.`,
    );
  }
  const model = read(architectureKeys, metadata, architecture.name);
  return {
    architectures: [architecture.huggingFace],
    _name_or_path: read(generalKeys, metadata, "general").name,
    num_hidden_layers: model.block_count,
    hidden_size: model.embedding_length,
    intermediate_size: model.feed_forward_length,
    num_attention_heads: model["attention.head_count"],
    num_key_value_heads: model["attention.head_count_kv"],
    head_dim: model["attention.key_length"],
    vocab_size: vocabSize,
    max_position_embeddings: model.context_length,
    rms_norm_eps: roundToFloat32(model["attention.layer_norm_rms_epsilon"]),
    rope_theta: model["rope.freq_base"] ?? 10_000,
    rope_scaling: toRopeScaling(model),
    tie_word_embeddings: tiedEmbedding,
    eos_token_id: endTokenIds(metadata),
    partial_rotary_factor: turningPart(model),
    ...architecture.own(model),
  };
}

/** Which part of a head turns, where it is not all of it. */
function turningPart(model: ModelKeys): number | undefined {
  const headDim =
    model["attention.key_length"] ?? model.embedding_length / model["attention.head_count"];
  const turning = model["rope.dimension_count"] ?? headDim;
  return turning === headDim ? undefined : turning / headDim;
}

/** Reads the keys of one prefix; those that nobody asks for are left alone. */
function read<T>(
  schema: z.ZodType<T>,
  metadata: ReadonlyMap<string, GgufValue>,
  prefix: string,
): T {
  const values = [...metadata].flatMap(([key, value]) =>
    key.startsWith(`${prefix}.`) ? [[key.slice(prefix.length + 1), value]] : [],
  );
  const parsed = schema.safeParse(Object.fromEntries(values));
  if (parsed.success) return parsed.data;
  throw new HubError(
    "unsupported_model",
    `The GGUF file's metadata '${prefix}.*': ${z.prettifyError(parsed.error)}`,
  );
}

function toRopeScaling(model: ModelKeys): object | undefined {
  const type = model["rope.scaling.type"];
  const factor = model["rope.scaling.factor"];
  if (type === undefined || type === "none" || factor === undefined) return undefined;
  return {
    rope_type: type,
    factor,
    original_max_position_embeddings: model["rope.scaling.original_context_length"],
    attention_factor: model["rope.scaling.attn_factor"],
  };
}

/** The end of a text, of a turn, and of a message may be three tokens. */
function endTokenIds(metadata: ReadonlyMap<string, GgufValue>): number[] {
  const { eos_token_id, eot_token_id, eom_token_id } = read(
    tokenizerKeys,
    metadata,
    "tokenizer.ggml",
  );
  const ids = [eos_token_id, eot_token_id, eom_token_id].filter((id) => id !== undefined);
  return [...new Set(ids)];
}

/** A float32 as the decimal that was meant, 1e-5 and not 0.000009999999747378752. */
function roundToFloat32(value: number): number {
  return Number(value.toPrecision(7));
}

/** What an architecture has beside the common settings, in its family's own fields. */
type OwnSettings = (model: ModelKeys) => Record<string, unknown>;

/** Options that change the numbers and that we do not compute are refused, never ignored. */
const nothing: OwnSettings = (model) => {
  const key = (["attention.sliding_window", "final_logit_softcapping"] as const).find(
    (option) => model[option],
  );
  if (key === undefined) return {};
  throw new HubError(
    "unsupported_model",
    `The GGUF file's metadata has '${key}', which its architecture is not computed with.`,
  );
};

/** A window of 0 is none. */
const phi3: OwnSettings = (model) => ({
  sliding_window: model["attention.sliding_window"] || null,
});

/** The file leaves out what llama.cpp knows of Gemma 3 by itself. */
const gemma3: OwnSettings = (model) => {
  const headDim = model["attention.key_length"] ?? 256;
  const pattern = model["attention.sliding_window_pattern"] ?? 6;
  const isLargest = model.block_count === 62;
  return {
    head_dim: headDim,
    query_pre_attn_scalar: isLargest
      ? model.embedding_length / model["attention.head_count"]
      : headDim,
    sliding_window: model["attention.sliding_window"],
    ...(typeof pattern === "number"
      ? { sliding_window_pattern: pattern }
      : { layer_types: pattern.map((local) => (local ? "sliding_attention" : "full_attention")) }),
    rope_theta: model["rope.freq_base"] ?? 1_000_000,
    rope_local_base_freq: model["rope.freq_base_swa"] ?? 10_000,
    final_logit_softcapping: model.final_logit_softcapping,
  };
};

const architectures = [
  { name: "llama", huggingFace: "LlamaForCausalLM", own: nothing },
  { name: "qwen2", huggingFace: "Qwen2ForCausalLM", own: nothing },
  { name: "qwen3", huggingFace: "Qwen3ForCausalLM", own: nothing },
  { name: "phi3", huggingFace: "Phi3ForCausalLM", own: phi3 },
  { name: "gemma3", huggingFace: "Gemma3ForCausalLM", own: gemma3 },
] as const;

const generalKeys = z.object({ name: z.string().max(200).optional() });

const tokenizerKeys = z.object({
  eos_token_id: z.int().nonnegative().optional(),
  eot_token_id: z.int().nonnegative().optional(),
  eom_token_id: z.int().nonnegative().optional(),
});

const architectureKeys = z.object({
  block_count: z.int().positive(),
  context_length: z.int().positive(),
  embedding_length: z.int().positive(),
  feed_forward_length: z.int().positive(),
  "attention.head_count": z.int().positive(),
  "attention.head_count_kv": z.int().positive().optional(),
  "attention.key_length": z.int().positive().optional(),
  "attention.layer_norm_rms_epsilon": z.number().positive(),
  "rope.freq_base": z.number().positive().optional(),
  "rope.freq_base_swa": z.number().positive().optional(),
  "rope.dimension_count": z.int().positive().optional(),
  "rope.scaling.type": z.enum(["none", "linear", "yarn"]).optional(),
  "rope.scaling.factor": z.number().positive().optional(),
  "rope.scaling.original_context_length": z.int().positive().optional(),
  "rope.scaling.attn_factor": z.number().positive().optional(),
  expert_count: z.literal(0).optional(),
  "attention.sliding_window": z.int().nonnegative().optional(),
  "attention.sliding_window_pattern": z
    .union([z.int().positive(), z.array(z.boolean()).max(1024)])
    .optional(),
  final_logit_softcapping: z.number().positive().optional(),
});
type ModelKeys = z.infer<typeof architectureKeys>;
