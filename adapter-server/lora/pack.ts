/** Turns a checked PEFT adapter into the float32 pairs that slots hold, and mixes several into one. */
import type { CheckedAdapter, CheckedPair } from "../../sdk/protocol/adapter/check-adapter.ts";
import { countOf, readTensorInto } from "../../sdk/protocol/adapter/safetensors.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import {
  type LoraModule,
  type LoraPair,
  loraModules,
  type PackedAdapter,
} from "../engine/types.ts";
import type { ScaleByMagnitude } from "./dora.ts";

/**
 * Numbers go straight to where they stay: copies of whole adapters made beside an engine cost it time, since its
 * threads wait while the memory of a process grows and shrinks.
 * @param digest the identity of the adapter's two files
 * @param memory of all numbers, 4 bytes each, one pair behind the other; new memory when absent
 * @param scale  finishes the pairs of DoRA, which takes the base's own weights
 * @throws HubError `unsupported_adapter` for tensor types that we do not compute with, and for DoRA without `scale`
 */
export async function packAdapter(
  checked: CheckedAdapter,
  digest: string,
  { memory, scale }: { memory?: SharedArrayBuffer; scale?: ScaleByMagnitude | undefined } = {},
): Promise<PackedAdapter> {
  const { bytes } = checked.weights;
  let used = 0;
  const room: Room = (values) => {
    if (!memory) return new Float32Array(values);
    const view = new Float32Array(memory, 4 * used, values);
    used += values;
    return view;
  };
  const layers = checked.layers.map((modules) =>
    mapModules((module) => {
      const pair = modules[module];
      return pair && packPair(bytes, pair, room);
    }),
  );
  for (const [layer, modules] of checked.layers.entries()) {
    for (const [module, { magnitude }] of Object.entries(modules)) {
      if (!magnitude) continue;
      if (!scale) throw withoutBase();
      const pair = layers[layer]![module as LoraModule]!;
      const gain = room(countOf(magnitude));
      readTensorInto(gain, bytes, magnitude);
      await scale(pair, gain, { layer, module: module as LoraModule });
      pair.gain = gain;
    }
  }
  return { digest, rank: checked.rank, layers };
}

/** Memory for so many numbers. */
type Room = (values: number) => Float32Array;

export type MixPart = { adapter: PackedAdapter; weight: number };

/**
 * The adapter whose update is the weighted sum of its parts', exactly and for any ranks: the parts' rows are laid one
 * after another, so ranks add up. PEFT calls this combination "cat". A part's update is all that it makes of the base's
 * matrix, so that one of DoRA adds `weight · (W' - W)`; gains, too, add up.
 * @param digest the identity of the mix
 * @throws HubError `adapter_rank_too_large` when the ranks together do not fit a slot
 */
export function mixAdapters(
  parts: readonly MixPart[],
  { digest, rankMax }: { digest: string; rankMax: number },
): PackedAdapter {
  const rank = rankOfMix(parts, rankMax);
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
  return { digest, rank, layers };
}

/**
 * @returns the largest rank of a mix's modules, each the sum of its parts'
 * @throws HubError `adapter_rank_too_large`
 */
export function rankOfMix(parts: readonly MixPart[], rankMax: number): number {
  const ranks = new Map<string, number>();
  for (const { adapter } of parts) {
    for (const [layer, modules] of adapter.layers.entries()) {
      for (const [module, { rank }] of Object.entries(modules)) {
        const at = `${layer} ${module}`;
        ranks.set(at, (ranks.get(at) ?? 0) + rank);
      }
    }
  }
  const rank = Math.max(0, ...ranks.values());
  if (rank <= rankMax) return rank;
  throw new HubError(
    "adapter_rank_too_large",
    `The mix has rank ${rank}, the sum of its adapters' ranks; a slot holds ${rankMax}.`,
  );
}

/** PEFT stores B as `[out, rank]`; rows of a rank together can be copied into a slot as they are. */
function packPair(bytes: Uint8Array, { a, b, rank, scaling }: CheckedPair, room: Room): LoraPair {
  const own = room(countOf(a));
  readTensorInto(own, bytes, a);
  const stored = scratchOf(countOf(b));
  readTensorInto(stored, bytes, b);
  const out = stored.length / rank;
  const transposed = room(stored.length);
  for (let row = 0; row < out; row++) {
    for (let k = 0; k < rank; k++) transposed[k * out + row] = stored[row * rank + k]! * scaling;
  }
  return { a: own, b: transposed, rank };
}

/** Room for one matrix as it is stored, used again by the next. */
function scratchOf(values: number): Float32Array {
  if (scratch.length < values) scratch = new Float32Array(values);
  return scratch.subarray(0, values);
}

let scratch = new Float32Array();

function withoutBase(): HubError {
  return new HubError(
    "unsupported_adapter",
    "adapter_config.json sets 'use_dora', which takes the base's own weights; they are not here.",
    { param: "use_dora" },
  );
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
  const gain = sumGains(parts);
  return { a, b, rank, ...(gain && { gain }) };
}

function sumGains(parts: { pair: LoraPair; weight: number }[]): Float32Array | undefined {
  let sum: Float32Array | undefined;
  for (const { pair, weight } of parts) {
    const before = sum;
    sum = pair.gain?.map((value, index) => weight * value + (before?.[index] ?? 0)) ?? before;
  }
  return sum;
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
