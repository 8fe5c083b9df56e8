/** Names of weights: llama.cpp's, and Hugging Face's for the same. */

/**
 * A name that has no counterpart stays, so that the check for unused tensors reports it as it is.
 * @param architecture as the file has it; some give a name another meaning
 */
export function toHuggingFaceName(name: string, architecture: unknown): string {
  const whole = wholeNames.get(name);
  if (whole !== undefined) return whole;
  const [, layer, part, kind] = /^blk\.(\d{1,5})\.([a-z_]+)\.(weight|bias)$/.exec(name) ?? [];
  if (part === undefined) return name;
  const own = typeof architecture === "string" ? ownNames.get(architecture) : undefined;
  const place = own?.get(part) ?? layerNames.get(part);
  return place === undefined ? name : `model.layers.${layer}.${place}.${kind}`;
}

const wholeNames = new Map(
  Object.entries({
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
  }),
);

const layerNames = new Map(
  Object.entries({
    attn_norm: "input_layernorm",
    attn_q: "self_attn.q_proj",
    attn_k: "self_attn.k_proj",
    attn_v: "self_attn.v_proj",
    attn_output: "self_attn.o_proj",
    attn_q_norm: "self_attn.q_norm",
    attn_k_norm: "self_attn.k_norm",
    ffn_norm: "post_attention_layernorm",
    ffn_gate: "mlp.gate_proj",
    ffn_up: "mlp.up_proj",
    ffn_down: "mlp.down_proj",
  }),
);

const ownNames: ReadonlyMap<string, ReadonlyMap<string, string>> = new Map([
  [
    "phi3",
    new Map([
      ["attn_qkv", "self_attn.qkv_proj"],
      ["ffn_up", "mlp.gate_up_proj"],
    ]),
  ],
  [
    "gemma3",
    new Map([
      ["post_attention_norm", "post_attention_layernorm"],
      ["ffn_norm", "pre_feedforward_layernorm"],
      ["post_ffw_norm", "post_feedforward_layernorm"],
    ]),
  ],
]);
