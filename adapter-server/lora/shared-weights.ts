/** Puts an adapter's numbers into memory that threads share, so that handing it over copies nothing. */
import type { LoraModule, LoraPair, PackedAdapter } from "../engine/types.ts";

/** The same adapter, its pairs one after the other in one shared buffer. */
export function toSharedMemory(adapter: PackedAdapter): PackedAdapter {
  const shared = new Float32Array(new SharedArrayBuffer(packedBytes(adapter)));
  let used = 0;
  const share = (values: Float32Array): Float32Array => {
    const view = shared.subarray(used, used + values.length);
    view.set(values);
    used += values.length;
    return view;
  };
  const layers = adapter.layers.map((layer) => {
    const moved: Partial<Record<LoraModule, LoraPair>> = {};
    for (const [module, pair] of Object.entries(layer) as [LoraModule, LoraPair][]) {
      moved[module] = { ...pair, a: share(pair.a), b: share(pair.b) };
    }
    return moved;
  });
  return { ...adapter, layers };
}

/** Bytes of the adapter's numbers. */
export function packedBytes(adapter: PackedAdapter): number {
  let bytes = 0;
  for (const layer of adapter.layers) {
    for (const pair of Object.values(layer)) bytes += pair.a.byteLength + pair.b.byteLength;
  }
  return bytes;
}
