/** The graphs of an import: one for each way to run the model, all over one file of weights. */

/** How keys and values are cached: exactly, or in a quarter of the memory. */
export const keyValueTypes = ["f32", "int8"] as const;
export type KeyValueType = (typeof keyValueTypes)[number];

export type GraphVariant = {
  /** Whether tokens may have adapters; a graph without is a quarter smaller and quicker. */
  adapters: boolean;
  keyValues: KeyValueType;
};

/** An import without this file is not finished. */
export const modelFileName = "model.onnx";

export const graphVariants: readonly GraphVariant[] = keyValueTypes.flatMap((keyValues) => [
  { adapters: true, keyValues },
  { adapters: false, keyValues },
]);

export function graphFileName({ adapters, keyValues }: GraphVariant): string {
  const cache = keyValues === "f32" ? "" : `-${keyValues}-cache`;
  return adapters && cache === "" ? modelFileName : `${adapters ? "model" : "base"}${cache}.onnx`;
}
