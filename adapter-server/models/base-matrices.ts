/** The base's own weights, module by module, for adapters that depend on them. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { LoraModule } from "../engine/types.ts";
import { loraSites } from "../lora/sites.ts";
import type { FileDigests } from "./model-digest.ts";
import { openModelSource, type WeightFiles } from "./model-source.ts";
import type { ModelSpec } from "./model-spec.ts";

/** Where the checkpoint of a base lies, and which one it was when it was imported. */
export type BaseCheckpoint = { path: string; digest: string };

export type BaseMatrices = {
  /** Rows `[from, to)` of a module's matrix `[out, in]`, in float32. */
  read(
    layer: number,
    module: LoraModule,
    rows: { from: number; to: number },
  ): Promise<Float32Array>;
  close(): Promise<void>;
};

/**
 * Reads the whole checkpoint once, to know it by its digest, as far as its files are not known.
 * @throws HubError `adapter_base_mismatch` when it is not there any more, or is another one by now
 */
export async function openBaseMatrices(
  { path, digest }: BaseCheckpoint,
  known?: FileDigests,
): Promise<BaseMatrices> {
  const source = await openModelSource(path, known).catch((cause: unknown) => {
    throw notThere(cause);
  });
  if (source.digest !== digest) throw notThere();
  const weights: WeightFiles = await source.openWeights();
  return {
    read: (layer, module, { from, to }) =>
      weights.read(tensorOf(source.spec, layer, module), from, to),
    close: () => weights.close(),
  };
}

/** Modules of a site stand in the order of their tensors. */
function tensorOf({ dims, tensors }: ModelSpec, layer: number, module: LoraModule): string {
  const { qkv, attentionOutput, gateUp, down } = tensors.layer(layer);
  const bySite = {
    qkv: qkv.map(({ tensor }) => tensor),
    o: [attentionOutput],
    gateUp: gateUp.map(({ tensor }) => tensor),
    down: [down],
  };
  for (const { name, modules } of loraSites(dims)) {
    const tensor = bySite[name][modules.indexOf(module)];
    if (tensor !== undefined) return tensor;
  }
  throw new Error(`the base has no module ${module}`);
}

function notThere(cause?: unknown): HubError {
  return new HubError(
    "adapter_base_mismatch",
    "The adapter's factors (use_dora) depend on the base's own weights, and its checkpoint is gone or has changed since the server started.",
    { cause, param: "use_dora" },
  );
}
