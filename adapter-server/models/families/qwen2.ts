/** Qwen2 and 2.5: the common block, with biases on queries, keys and values, and windows in later layers. */
import { z } from "zod";
import type { Family, ModelSpec } from "../model-spec.ts";
import {
  commonConfig,
  commonSpec,
  layerTypes,
  localLayers,
  parseConfig,
  ropeOf,
  withLocalLayers,
} from "./common.ts";

export const qwen2: Family = {
  architecture: "Qwen2ForCausalLM",
  readSpec(config) {
    const data = parseConfig(qwenConfig, config);
    const { tensors, ...spec } = withQwenWindows(commonSpec("qwen2", data), data);
    return { ...spec, tensors: { ...tensors, layer: (index) => withBiases(tensors.layer(index)) } };
  },
};

/** The windows of Qwen2 and Qwen3: off by default, and then only from `max_window_layers` on. */
export function withQwenWindows(spec: ModelSpec, data: z.infer<typeof qwenConfig>): ModelSpec {
  const window = data.use_sliding_window ? data.sliding_window : undefined;
  if (window == null) return spec;
  const fromLayer = data.max_window_layers;
  const local = localLayers(spec.dims.layers, data.layer_types, (layer) => layer >= fromLayer);
  return withLocalLayers(spec, ropeOf(data), { window, local });
}

function withBiases(layer: ReturnType<ModelSpec["tensors"]["layer"]>) {
  const qkvBias = layer.qkv.map(({ tensor, rows }) => ({
    tensor: tensor.replace(/\.weight$/, ".bias"),
    rows,
  }));
  return { ...layer, qkvBias };
}

export const qwenConfig = commonConfig.extend({
  use_sliding_window: z.boolean().default(false),
  sliding_window: z.int().positive().nullish(),
  max_window_layers: z.int().nonnegative().default(28),
  layer_types: layerTypes,
});
