/** Qwen3: the common block, with a norm over every query and key head before it is turned. */
import type { Family } from "../model-spec.ts";
import { commonSpec, parseConfig } from "./common.ts";
import { qwenConfig, withQwenWindows } from "./qwen2.ts";

export const qwen3: Family = {
  architecture: "Qwen3ForCausalLM",
  readSpec(config) {
    const data = parseConfig(qwenConfig, config);
    const { tensors, ...spec } = withQwenWindows(commonSpec("qwen3", data), data);
    const headNorms = (index: number) => ({
      query: `model.layers.${index}.self_attn.q_norm.weight`,
      key: `model.layers.${index}.self_attn.k_norm.weight`,
    });
    const layer = (index: number) => ({ ...tensors.layer(index), headNorms: headNorms(index) });
    return { ...spec, tensors: { ...tensors, layer } };
  },
};
