/** Which weights are to answer, as a request names them, and how they are held while it runs. */
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import type { AdapterLease } from "../lora/adapter-cache.ts";
import { type AppParts, noSuchModel } from "../parts.ts";

export type Target =
  | { type: "base" }
  | { type: "name"; name: string }
  | { type: "digest"; digest: Sha256 }
  | { type: "mix"; parts: { target: SingleTarget; weight: number }[] };
type SingleTarget = Extract<Target, { type: "name" | "digest" }>;

/** A weighted sum of adapters over the base, instead of one. */
export const adapterMix = z
  .array(
    z.strictObject({
      model: z.string().min(1).max(512),
      weight: z.number().min(-16).max(16).default(1),
    }),
  )
  .min(1)
  .nullish();

type Named = { model: string; adapters?: z.infer<typeof adapterMix> };

/**
 * @param baseId what clients call the base model
 * @throws HubError that names the field
 */
export function readTarget(
  { model, adapters }: Named,
  { baseId, mixPartsMax }: { baseId: string; mixPartsMax: number },
): Target {
  if (!adapters) return model === baseId ? { type: "base" } : readSingle(model, baseId);
  if (adapters.length > mixPartsMax) {
    throw new HubError(
      "number_out_of_range",
      `Invalid 'adapters': expected at most ${mixPartsMax}.`,
      { param: "adapters" },
    );
  }
  if (model !== baseId) {
    throw new HubError(
      "invalid_value",
      `A mix of adapters goes over the base: set 'model' to '${baseId}'.`,
      { param: "model" },
    );
  }
  const parts = adapters.map((part) => ({
    target: readSingle(part.model, baseId),
    weight: part.weight,
  }));
  const names = new Set(adapters.map((part) => part.model));
  if (names.size < adapters.length) {
    throw new HubError(
      "invalid_value",
      "An adapter is named twice in the mix; add up its weights.",
      { param: "adapters" },
    );
  }
  return { type: "mix", parts };
}

/**
 * @returns nothing for the base, which is always there
 * @throws HubError `model_not_found`, and what loading an adapter throws
 */
export async function acquireWeights(
  { adapters }: Pick<AppParts, "adapters">,
  { model, target }: { model: string; target: Target },
  { isOperator, signal }: { isOperator: boolean; signal?: AbortSignal | undefined },
): Promise<AdapterLease | undefined> {
  const digestOf = (single: SingleTarget) => {
    // To those who may not ask for weights by digest there are none, whether they exist or not.
    if (single.type === "digest" && isOperator) return single.digest;
    const named = single.type === "name" ? adapters.named(single.name) : undefined;
    if (!named) throw noSuchModel(model);
    return named.digest;
  };
  switch (target.type) {
    case "base":
      return undefined;
    case "name":
    case "digest":
      return adapters.acquire(digestOf(target), signal);
    case "mix":
      return adapters.acquireMix(
        target.parts.map((part) => ({ digest: digestOf(part.target), weight: part.weight })),
        signal,
      );
    default:
      return target satisfies never;
  }
}

/** `<base>@sha256-…` and `sha256-…` name weights; everything else is a name that was loaded, over its base or alone. */
function readSingle(model: string, baseId: string): SingleTarget {
  const text = model.startsWith(`${baseId}@`) ? model.slice(baseId.length + 1) : model;
  const digest = sha256.safeParse(text.startsWith("sha256-") ? text.slice(7) : undefined);
  if (digest.success) return { type: "digest", digest: digest.data };
  // SGLang writes `base:adapter`.
  const name = model.startsWith(`${baseId}:`) ? model.slice(baseId.length + 1) : model;
  return { type: "name", name };
}
