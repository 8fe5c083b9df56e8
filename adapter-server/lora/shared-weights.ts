/** Puts an adapter's numbers into memory that threads share, so that handing it over copies nothing. */
import type { LoraModule, LoraPair, PackedAdapter } from "../engine/types.ts";

/**
 * The same adapter, its pairs one after the other in one shared buffer.
 * @param memory at least `packedBytes(adapter)`; all of it that the adapter has is written
 */
export function toSharedMemory(adapter: PackedAdapter, memory: SharedArrayBuffer): PackedAdapter {
  const shared = new Float32Array(memory);
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
      const gain = pair.gain && { gain: share(pair.gain) };
      moved[module] = { ...pair, a: share(pair.a), b: share(pair.b), ...gain };
    }
    return moved;
  });
  return { ...adapter, layers };
}

/** Bytes of the adapter's numbers. */
export function packedBytes(adapter: PackedAdapter): number {
  let bytes = 0;
  for (const layer of adapter.layers) {
    for (const { a, b, gain } of Object.values(layer)) {
      bytes += a.byteLength + b.byteLength + (gain?.byteLength ?? 0);
    }
  }
  return bytes;
}

/** The buffer that holds all of the adapter's numbers, if they were put into one. */
export function memoryOf(adapter: PackedAdapter): SharedArrayBuffer | undefined {
  for (const layer of adapter.layers) {
    for (const { a } of Object.values(layer)) {
      return a.buffer instanceof SharedArrayBuffer ? a.buffer : undefined;
    }
  }
  return undefined;
}
