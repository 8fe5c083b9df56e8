/**
 * Phi-3: the common block, with queries, keys and values stored as one matrix, and gate with up as
 * another. Adapters follow the checkpoint: one A for the whole matrix, whose B we cut up.
 */
import { z } from "zod";
import type { Family, LayerTensors, StackedTensor } from "../model-spec.ts";
import { commonConfig, commonSpec, parseConfig, ropeOf, withLocalLayers } from "./common.ts";

export const phi3: Family = {
  architecture: "Phi3ForCausalLM",
  readSpec(config) {
    const data = parseConfig(phi3Config, config);
    const window = data.sliding_window;
    const common = commonSpec("phi3", data);
    const local = common.layerAttention.map(() => window != null);
    const { tensors, ...spec } = withLocalLayers(common, ropeOf(data), { window, local });
    const layer = (index: number): LayerTensors => {
      const separate = tensors.layer(index);
      return {
        ...separate,
        qkv: fused(`model.layers.${index}.self_attn.qkv_proj.weight`, separate.qkv),
        gateUp: fused(`model.layers.${index}.mlp.gate_up_proj.weight`, separate.gateUp),
      };
    };
    return {
      ...spec,
      dims: { ...spec.dims, fusedModules: true },
      tensors: { ...tensors, layer },
    };
  },
};

function fused(tensor: string, parts: readonly StackedTensor[]): StackedTensor[] {
  return [{ tensor, rows: parts.reduce((rows, part) => rows + part.rows, 0) }];
}

const phi3Config = commonConfig.extend({ sliding_window: z.int().positive().nullish() });
