/** Turns a checked PEFT adapter into the float32 pairs that slots hold, and mixes several into one. */
import type { CheckedAdapter, CheckedPair } from "../../sdk/protocol/adapter/check-adapter.ts";
import { readTensor } from "../../sdk/protocol/adapter/safetensors.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import {
  type LoraModule,
  type LoraPair,
  loraModules,
  type PackedAdapter,
} from "../engine/types.ts";

/**
 * @param digest the identity of the adapter's two files
 * @throws HubError `unsupported_adapter` for tensor types that we do not compute with
 */
export function packAdapter(checked: CheckedAdapter, digest: string): PackedAdapter {
  const { bytes } = checked.weights;
  const layers = checked.layers.map((modules) =>
    mapModules((module) => {
      const pair = modules[module];
      return pair && packPair(bytes, pair);
    }),
  );
  return { digest, rank: checked.rank, layers };
}

export type MixPart = { adapter: PackedAdapter; weight: number };

/**
 * The adapter whose update is `Σ weight · B·A`, exactly and for any ranks: the parts' rows are laid one
 * after another, so ranks add up. PEFT calls this combination "cat".
 * @param digest the identity of the mix
 * @throws HubError `adapter_rank_too_large` when the ranks together do not fit a slot
 */
export function mixAdapters(
  parts: readonly MixPart[],
  { digest, rankMax }: { digest: string; rankMax: number },
): PackedAdapter {
  const layerCount = Math.max(...parts.map(({ adapter }) => adapter.layers.length));
  const layers = Array.from({ length: layerCount }, (_, layer) =>
    mapModules((module) =>
      concatenate(
        parts.flatMap(({ adapter, weight }) => {
          const pair = adapter.layers[layer]?.[module];
          return pair ? [{ pair, weight }] : [];
        }),
      ),
    ),
  );
  const ranks = layers.flatMap((modules) => Object.values(modules).map((pair) => pair.rank));
  const rank = Math.max(0, ...ranks);
  if (rank > rankMax) {
    throw new HubError(
      "adapter_rank_too_large",
      `The mix has rank ${rank}, the sum of its adapters' ranks; a slot holds ${rankMax}.`,
    );
  }
  return { digest, rank, layers };
}

/** PEFT stores B as `[out, rank]`; rows of a rank together can be copied into a slot as they are. */
function packPair(bytes: Uint8Array, { a, b, rank, scaling }: CheckedPair): LoraPair {
  const stored = readTensor(bytes, b);
  const out = stored.length / rank;
  const transposed = new Float32Array(stored.length);
  for (let row = 0; row < out; row++) {
    for (let k = 0; k < rank; k++) transposed[k * out + row] = stored[row * rank + k]! * scaling;
  }
  return { a: readTensor(bytes, a), b: transposed, rank };
}

function concatenate(parts: { pair: LoraPair; weight: number }[]): LoraPair | undefined {
  if (parts.length === 0) return undefined;
  const lengths = (of: "a" | "b") => parts.reduce((sum, { pair }) => sum + pair[of].length, 0);
  const a = new Float32Array(lengths("a"));
  const b = new Float32Array(lengths("b"));
  let [rank, offsetA, offsetB] = [0, 0, 0];
  for (const { pair, weight } of parts) {
    a.set(pair.a, offsetA);
    b.set(
      pair.b.map((value) => value * weight),
      offsetB,
    );
    offsetA += pair.a.length;
    offsetB += pair.b.length;
    rank += pair.rank;
  }
  return { a, b, rank };
}

function mapModules(
  make: (module: LoraModule) => LoraPair | undefined,
): Partial<Record<LoraModule, LoraPair>> {
  const layer: Partial<Record<LoraModule, LoraPair>> = {};
  for (const module of loraModules) {
    const pair = make(module);
    if (pair) layer[module] = pair;
  }
  return layer;
}
