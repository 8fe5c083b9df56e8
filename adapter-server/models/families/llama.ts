/** Llama 2, 3, SmolLM and kin: the common block. */
import type { Family } from "../model-spec.ts";
import { commonConfig, commonSpec, parseConfig } from "./common.ts";

export const llama: Family = {
  architecture: "LlamaForCausalLM",
  readSpec: (config) => commonSpec("llama", parseConfig(commonConfig, config)),
};
