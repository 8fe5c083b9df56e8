import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AdapterSlots, hasGains, type SlotRun } from "./adapter-slots.ts";
import type { LoraPair, ModelDims, PackedAdapter } from "./types.ts";

const dims: ModelDims = {
  layers: 2,
  hiddenSize: 4,
  intermediateSize: 3,
  heads: 4,
  keyValueHeads: 2,
  headDim: 2,
  vocabSize: 8,
  contextLength: 8,
  windows: [Number.POSITIVE_INFINITY],
  fusedModules: false,
};
const slotCount = 6;
const rankMax = 32;

describe("a call's adapters", () => {
  test("lie side by side with exactly their weights, whatever was loaded and used before", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const slots = new AdapterSlots({ dims, slots: slotCount, rankMax });
        const loaded = new Map<number, PackedAdapter>();
        let seed = 1;
        for (const { load, rank, gains, use } of actions) {
          if (load !== undefined) {
            const adapter = makeAdapter(seed++, rank, gains);
            slots.load(load, adapter);
            loaded.set(load, adapter);
          }
          const active = use.filter((slot) => loaded.has(slot));
          const run = slots.arrange(active);
          expect(run.count).toBeLessThanOrEqual(2 * active.length);
          const places = active.map((slot) => slots.placeOf(slot) - run.first);
          expect(new Set(places).size).toBe(active.length);
          expect(run.gains).toBe(active.some((slot) => hasGains(loaded.get(slot)!)));
          for (const [index, slot] of active.entries()) {
            expect(places[index]).toBeGreaterThanOrEqual(0);
            expect(places[index]).toBeLessThan(run.count);
            expectWeights(slots, run, { place: places[index]!, adapter: loaded.get(slot)! });
          }
        }
      }),
    );
  });

  test("stay where they are while the same ones are used, so that nothing is copied", () => {
    const slots = withAdapters([8, 8, 8, 8]);
    const decode = slots.arrange([2, 4]);
    slots.arrange([1]);
    const places = [2, 4].map((slot) => slots.placeOf(slot));
    expect(slots.arrange([4, 2])).toEqual(decode);
    expect([2, 4].map((slot) => slots.placeOf(slot))).toEqual(places);
    expect(decode.count).toBe(2);
  });

  test("are padded to the largest rank in recent use, and no longer once it has gone out of use", () => {
    const slots = withAdapters([4, 24]);
    expect(slots.arrange([1]).rank).toBe(8);
    expect(slots.arrange([2]).rank).toBe(32);
    expect(slots.arrange([1]).rank).toBe(32);
    for (let call = 0; call < 600; call++) slots.arrange([1]);
    expect(slots.arrange([1]).rank).toBe(8);
    expect(slots.arrange([1, 2]).rank).toBe(32);
  });

  test("leave nothing behind when they are forgotten: neither place nor memory", async () => {
    const slots = new AdapterSlots({ dims, slots: slotCount, rankMax });
    const load = () => {
      const adapter = makeAdapter(1, 8);
      slots.load(1, adapter);
      return new WeakRef(adapter);
    };
    const held = load();
    slots.arrange([1]);
    slots.clear(1);
    expect(slots.placeOf(1)).toBe(-1);
    expect(() => slots.arrange([1])).toThrow(/slot 1 is empty/);
    slots.load(2, makeAdapter(2, 8));
    const run = slots.arrange([2]);
    expectWeights(slots, run, { place: 0, adapter: makeAdapter(2, 8) });
    setFlagsFromString("--expose-gc");
    await new Promise((resolve) => setImmediate(resolve));
    (runInNewContext("gc") as () => void)();
    expect(held.deref()).toBe(undefined);
  });

  test("may be none: the views then hold one place, for a call that reads nothing from it", () => {
    const slots = new AdapterSlots({ dims, slots: 0, rankMax });
    const run = slots.arrange([]);
    expect(run.count).toBe(0);
    expect(slots.views(run).every(({ shape }) => shape[0] === 1)).toBe(true);
  });
});

test("an adapter of a larger rank than slots hold is our own mistake by now", () => {
  const slots = new AdapterSlots({ dims, slots: 1, rankMax: 8 });
  expect(() => slots.load(1, makeAdapter(1, 9))).toThrow(/rank 9/);
  expect(() => slots.arrange([1])).toThrow(/slot 1 is empty/);
});

const action = fc.record({
  load: fc.option(fc.integer({ min: 1, max: slotCount }), { nil: undefined }),
  rank: fc.integer({ min: 1, max: rankMax }),
  gains: fc.boolean(),
  use: fc.uniqueArray(fc.integer({ min: 1, max: slotCount }), { maxLength: slotCount }),
});

function withAdapters(ranks: number[]): AdapterSlots {
  const slots = new AdapterSlots({ dims, slots: slotCount, rankMax });
  ranks.forEach((rank, index) => {
    slots.load(index + 1, makeAdapter(index + 1, rank));
  });
  return slots;
}

/** Its values tell the adapter, the module and the position apart; `up_proj` is left out. */
function makeAdapter(seed: number, rank: number, gains = false): PackedAdapter {
  const values = (length: number, first: number) =>
    Float32Array.from({ length }, (_, i) => first + Math.sign(first) * i);
  const pair = (module: number, width: number, out: number): LoraPair => ({
    a: values(rank * width, seed * 1000 + module * 100),
    b: values(rank * out, -(seed * 1000 + module * 100)),
    rank,
    ...(gains && { gain: values(out, seed * 1000 + module * 100 + 50) }),
  });
  const layer = () => ({
    q_proj: pair(0, 4, 8),
    k_proj: pair(1, 4, 4),
    v_proj: pair(2, 4, 4),
    o_proj: pair(3, 8, 4),
    gate_proj: pair(4, 4, 3),
    down_proj: pair(5, 3, 4),
  });
  return { digest: String(seed), rank, layers: [layer(), layer()] };
}

function expectWeights(
  slots: AdapterSlots,
  run: SlotRun,
  { place, adapter }: { place: number; adapter: PackedAdapter },
): void {
  const matrix = (name: string, index: number): number[] => {
    const view = slots.views(run).find((candidate) => candidate.name === name)!;
    const [, matrices, rank, width] = view.shape as [number, number, number, number];
    const start = (place * matrices + index) * rank * width;
    return [...view.data.subarray(start, start + rank * width)];
  };
  const padded = (rows: ArrayLike<number>, width: number): number[] => {
    const values = new Array<number>(run.rank * width).fill(0);
    for (let i = 0; i < rows.length; i++) values[i] = rows[i]!;
    return values;
  };
  const { q_proj, k_proj, gate_proj, down_proj } = adapter.layers[1]!;
  expect(matrix("lora1.qkv.a", 0)).toEqual(padded(q_proj!.a, 4));
  expect(matrix("lora1.qkv.a", 1)).toEqual(padded(k_proj!.a, 4));
  // The query's eight outputs are two parts of four.
  const columns = (from: number) => q_proj!.b.filter((_, i) => Math.floor((i % 8) / 4) === from);
  expect(matrix("lora1.qkv.b", 0)).toEqual(padded(columns(0), 4));
  expect(matrix("lora1.qkv.b", 1)).toEqual(padded(columns(1), 4));
  expect(matrix("lora1.gateUp.b", 0)).toEqual(padded(gate_proj!.b, 3));
  expect(matrix("lora1.gateUp.b", 1)).toEqual(padded([], 3));
  expect(matrix("lora1.down.a", 0)).toEqual(padded(down_proj!.a, 3));
  if (!run.gains) {
    expect(slots.views(run).some(({ name }) => name.endsWith(".gain"))).toBe(false);
    return;
  }
  const gainOf = ({ gain }: LoraPair, from: number, to: number) =>
    gain ? [...gain.subarray(from, to)] : new Array<number>(to - from).fill(0);
  expect(matrix("lora1.qkv.gain", 0)).toEqual(gainOf(q_proj!, 0, 4));
  expect(matrix("lora1.qkv.gain", 1)).toEqual(gainOf(q_proj!, 4, 8));
  expect(matrix("lora1.qkv.gain", 2)).toEqual(gainOf(k_proj!, 0, 4));
  expect(matrix("lora1.gateUp.gain", 0)).toEqual(gainOf(gate_proj!, 0, 3));
  expect(matrix("lora1.gateUp.gain", 1)).toEqual([0, 0, 0]);
}
