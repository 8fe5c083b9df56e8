/** The graphs of an import: one for each way to run the model, all over one file of weights. */

/** How keys and values are cached: exactly, or in a quarter of the memory. */
export const keyValueTypes = ["f32", "int8"] as const;
export type KeyValueType = (typeof keyValueTypes)[number];

/** What tokens may have: no adapters, LoRA, or DoRA as well. Each takes nodes that cost time where they have nothing to do. */
const adapterKinds = ["none", "lora", "dora"] as const;
export type AdapterKind = (typeof adapterKinds)[number];

/** How weights for single sequences may be stored. */
export const singleFormats = ["int4", "int4-128"] as const;
export type SingleFormat = (typeof singleFormats)[number];

/** Over which weights: those of all steps, or 4-bit ones for a step in which a single sequence decodes. */
export type GraphWeights = "main" | "single";

export type GraphVariant = {
  adapters: AdapterKind;
  keyValues: KeyValueType;
  weights: GraphWeights;
};

/** An import without this file is not finished. */
export const modelFileName = "model.onnx";

/** All graphs over some weights. Few have DoRA and fewer are alone with it: those take the main weights. */
export function graphVariants(weights: GraphWeights): GraphVariant[] {
  const kinds = adapterKinds.filter((kind) => weights === "main" || kind !== "dora");
  return keyValueTypes.flatMap((keyValues) =>
    kinds.map((adapters) => ({ adapters, keyValues, weights })),
  );
}

export function graphFileName({ adapters, keyValues, weights }: GraphVariant): string {
  const prefix = weights === "main" ? "" : `${weights}-`;
  const cache = keyValues === "f32" ? "" : `-${keyValues}-cache`;
  return `${prefix}${stems[adapters]}${cache}.onnx`;
}

const stems = { none: "base", lora: "model", dora: "dora" } as const;
