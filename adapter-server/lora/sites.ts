/** Where in a layer adapters add their products, and how their matrices are cut up for it. */
import type { LoraModule, ModelDims } from "../engine/types.ts";

/** The four matrices of a layer, each several of the checkpoint's in one. */
export const siteNames = ["qkv", "o", "gateUp", "down"] as const;
export type SiteName = (typeof siteNames)[number];

/** One product `y += (x·Aᵀ)·B` of a layer; it may serve several modules that share their input. */
export type LoraSite = {
  name: SiteName;
  in: number;
  /** Width of a part; parts of one site are equally wide, so that one batched product makes them all. */
  partOut: number;
  /** Modules in the order of their A. */
  modules: readonly LoraModule[];
  /** For each part, which of `modules` it belongs to and at which of that module's outputs it begins. */
  parts: readonly { module: number; column: number }[];
};

/**
 * The sites of a layer. Queries are cut into parts as wide as the keys: one for each query head that
 * shares a key head. A fused module has one A, and its B is cut up in the same way.
 */
export function loraSites(dims: ModelDims): LoraSite[] {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headDim, fusedModules } = dims;
  const keyOut = keyValueHeads * headDim;
  const queryParts = heads / keyValueHeads;
  const whole = (module: number) => ({ module, column: 0 });
  /** Parts of the first module, one behind the other. */
  const stacked = (parts: number, width: number) =>
    Array.from({ length: parts }, (_, part) => ({ module: 0, column: part * width }));
  return [
    {
      name: "qkv",
      in: hiddenSize,
      partOut: keyOut,
      modules: fusedModules ? ["qkv_proj"] : ["q_proj", "k_proj", "v_proj"],
      parts: fusedModules
        ? stacked(queryParts + 2, keyOut)
        : [...stacked(queryParts, keyOut), whole(1), whole(2)],
    },
    { name: "o", in: heads * headDim, partOut: hiddenSize, modules: ["o_proj"], parts: [whole(0)] },
    {
      name: "gateUp",
      in: hiddenSize,
      partOut: intermediateSize,
      modules: fusedModules ? ["gate_up_proj"] : ["gate_proj", "up_proj"],
      parts: fusedModules ? stacked(2, intermediateSize) : [whole(0), whole(1)],
    },
    {
      name: "down",
      in: intermediateSize,
      partOut: hiddenSize,
      modules: ["down_proj"],
      parts: [whole(0)],
    },
  ];
}

/** Names of the graph inputs that hold a site's adapters; gains are of DoRA alone. */
export function loraInputs(
  layer: number,
  { name }: LoraSite,
): { a: string; b: string; gain: string } {
  const site = `lora${layer}.${name}`;
  return { a: `${site}.a`, b: `${site}.b`, gain: `${site}.gain` };
}
