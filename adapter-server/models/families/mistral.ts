/** Mistral: the common block, with a window over the latest positions in every layer. */
import { z } from "zod";
import type { Family } from "../model-spec.ts";
import { commonConfig, commonSpec, parseConfig, ropeOf, withLocalLayers } from "./common.ts";

export const mistral: Family = {
  architecture: "MistralForCausalLM",
  readSpec(config) {
    const data = parseConfig(mistralConfig, config);
    const spec = commonSpec("mistral", data);
    const window = data.sliding_window;
    const local = spec.layerAttention.map(() => window != null);
    return withLocalLayers(spec, ropeOf(data), { window, local });
  },
};

const mistralConfig = commonConfig.extend({ sliding_window: z.int().positive().nullish() });
