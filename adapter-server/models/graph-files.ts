/** The graphs of an import: one for each way to run the model, all over one file of weights. */

/** How keys and values are cached: exactly, or in a quarter of the memory. */
export const keyValueTypes = ["f32", "int8"] as const;
export type KeyValueType = (typeof keyValueTypes)[number];

/** What tokens may have: no adapters, LoRA, or DoRA as well. Each takes nodes that cost time where they have nothing to do. */
const adapterKinds = ["none", "lora", "dora"] as const;
export type AdapterKind = (typeof adapterKinds)[number];

export type GraphVariant = { adapters: AdapterKind; keyValues: KeyValueType };

/** An import without this file is not finished. */
export const modelFileName = "model.onnx";

export const graphVariants: readonly GraphVariant[] = keyValueTypes.flatMap((keyValues) =>
  adapterKinds.map((adapters) => ({ adapters, keyValues })),
);

export function graphFileName({ adapters, keyValues }: GraphVariant): string {
  const cache = keyValues === "f32" ? "" : `-${keyValues}-cache`;
  return `${stems[adapters]}${cache}.onnx`;
}

const stems = { none: "base", lora: "model", dora: "dora" } as const;
