/**
 * Holds the loaded adapters where the graph can use them: those of one call side by side in memory.
 *
 * The graph multiplies all groups of a call in one batched product, so a call's adapters must lie in
 * neighbouring places and at one common rank. Slots are names; places are positions in the arena. An
 * adapter is copied to a place when a call first needs it, next to those it is used with, and then stays,
 * so that a steady mixture costs no copies. A few places between them that the call does not need are
 * tolerated, since computing a group in vain is cheaper than moving adapters to and fro.
 *
 * The common rank is that of the largest adapter in recent use, not the largest allowed: padding a rank-8
 * adapter to 64 would cost eight times its product. It grows at once and shrinks after a while.
 *
 * Gains, which DoRA alone has, take memory once an adapter with some is placed, and are part of a call that uses one.
 */
import { invariant } from "../../sdk/protocol/errors.ts";
import { type LoraSite, loraInputs, loraSites } from "../lora/sites.ts";
import type { ModelDims, PackedAdapter } from "./types.ts";

/** A run of places that covers all adapters of a call. */
export type SlotRun = {
  first: number;
  count: number;
  /** Rows of every A and B in the arena. */
  rank: number;
  /** Whether any of the call's adapters has gains, so that their views are needed as well. */
  gains: boolean;
  /** Changes whenever the arena's memory or rank does. */
  layout: number;
};

/** One graph input: a view of the arena. `shape` is `[places, matrices, rank, width]`; gains have one row for any rank. */
export type SlotView = { name: string; data: Float32Array; shape: number[] };

export class AdapterSlots {
  readonly #sites: LoraSite[];
  readonly #layers: number;
  readonly #rankMax: number;
  /** By slot; slot 0 is the base model and always empty. */
  readonly #adapters: (PackedAdapter | undefined)[];
  /** By slot: whether its adapter has gains. */
  readonly #hasGains: boolean[];
  /** Slot by place; 0 is an empty place. */
  readonly #slotAt: Int32Array;
  /** Place by slot; -1 is nowhere. */
  readonly #placeOf: Int32Array;
  #matrices: Matrices[] = [];
  /** By layer and site; none until an adapter has some. */
  #gains: Matrices[] = [];
  #rank = 0;
  #layout = 0;
  /** Calls in a row that would have done with a smaller rank, and the largest rank that they used. */
  #callsBelow = 0;
  #rankBelow = 0;
  readonly #loads: { digest: string; ms: number }[] = [];

  constructor({ dims, slots, rankMax }: { dims: ModelDims; slots: number; rankMax: number }) {
    this.#sites = loraSites(dims);
    this.#layers = dims.layers;
    this.#rankMax = rankMax;
    this.#adapters = new Array(slots + 1).fill(undefined);
    this.#hasGains = new Array(slots + 1).fill(false);
    this.#slotAt = new Int32Array(slots);
    this.#placeOf = new Int32Array(slots + 1).fill(-1);
  }

  /** Puts an adapter into a slot in place of what was there. */
  load(slot: number, adapter: PackedAdapter): void {
    invariant(slot >= 1 && slot < this.#adapters.length, `slot ${slot} does not exist`);
    invariant(adapter.rank <= this.#rankMax, `rank ${adapter.rank} does not fit a slot`);
    this.#vacate(slot);
    this.#adapters[slot] = adapter;
    this.#hasGains[slot] = hasGains(adapter);
  }

  /** Forgets the slot's adapter, whose place others may have. */
  clear(slot: number): void {
    invariant(slot >= 1 && slot < this.#adapters.length, `slot ${slot} does not exist`);
    this.#vacate(slot);
    this.#adapters[slot] = undefined;
  }

  /**
   * Brings the adapters of a call side by side.
   * @param slots distinct slots, none of them 0; may be empty
   */
  arrange(slots: readonly number[]): SlotRun {
    this.#fitRank(slots);
    for (const slot of slots) {
      if (this.#placeOf[slot] === -1) this.#place(slot, this.#nearestPlace(slots));
    }
    let { first, count } = this.#cover(slots);
    while (count > 2 * slots.length) {
      this.#moveInwards(slots, first, count);
      ({ first, count } = this.#cover(slots));
    }
    const gains = this.haveGains(slots);
    return { first, count, rank: this.#rank, gains, layout: this.#layout };
  }

  /** What is in the slots that are not empty. */
  *loaded(): Iterable<[slot: number, adapter: PackedAdapter]> {
    for (const [slot, adapter] of this.#adapters.entries()) if (adapter) yield [slot, adapter];
  }

  #adapter(slot: number): PackedAdapter {
    const adapter = this.#adapters[slot];
    invariant(adapter, `slot ${slot} is empty`);
    return adapter;
  }

  /** Whether any of the slots has an adapter with gains. */
  haveGains(slots: readonly number[]): boolean {
    return slots.some((slot) => this.#hasGains[slot]);
  }

  /** How long each copy took since this was asked last, as far as anybody asks. */
  takeLoads(): { digest: string; ms: number }[] {
    return this.#loads.splice(0);
  }

  /** Where a slot's adapter lies now. */
  placeOf(slot: number): number {
    return this.#placeOf[slot]!;
  }

  /** The graph inputs that hold the adapters of a run. A run of no places still has views, of one place. */
  views({ first, count, gains }: SlotRun): SlotView[] {
    const places = Math.max(1, count);
    const view = ({ name, data, matrices, width }: Matrices, rows: number): SlotView => {
      const size = matrices * rows * width;
      return {
        name,
        data: data.subarray(first * size, (first + places) * size),
        shape: [places, matrices, rows, width],
      };
    };
    const views = this.#matrices.map((matrices) => view(matrices, this.#rank));
    return gains ? [...views, ...this.#gains.map((matrices) => view(matrices, 1))] : views;
  }

  #fitRank(slots: readonly number[]): void {
    const largest = Math.max(0, ...slots.map((slot) => this.#adapter(slot).rank));
    const needed = Math.min(rankClass(largest), Math.max(rankStep, this.#rankMax));
    if (needed > this.#rank) {
      this.#layOut(needed);
    } else if (needed === this.#rank) {
      this.#callsBelow = 0;
    } else if (slots.length > 0) {
      this.#rankBelow = this.#callsBelow === 0 ? needed : Math.max(needed, this.#rankBelow);
      this.#callsBelow++;
      if (this.#callsBelow > callsBeforeShrinking) this.#layOut(this.#rankBelow);
    }
  }

  /** New memory at another rank. Adapters return to it when they are next used. */
  #layOut(rank: number): void {
    this.#rank = rank;
    this.#layout++;
    this.#callsBelow = 0;
    this.#slotAt.fill(0);
    this.#placeOf.fill(-1);
    this.#matrices = this.#perSite((site, names) => [
      this.#room(names.a, { matrices: site.modules.length, rows: rank, width: site.in }),
      this.#room(names.b, { matrices: site.parts.length, rows: rank, width: site.partOut }),
    ]);
  }

  #perSite(make: (site: LoraSite, names: ReturnType<typeof loraInputs>) => Matrices[]): Matrices[] {
    return Array.from({ length: this.#layers }, (_, layer) =>
      this.#sites.flatMap((site) => make(site, loraInputs(layer, site))),
    ).flat();
  }

  /** Memory for all places, all zero. */
  #room(name: string, size: { matrices: number; rows: number; width: number }): Matrices {
    const { matrices, rows, width } = size;
    const places = Math.max(1, this.#slotAt.length);
    return { name, matrices, width, data: new Float32Array(places * matrices * rows * width) };
  }

  /** The place of least worth among those nearest to the call's other adapters. */
  #nearestPlace(slots: readonly number[]): number {
    const { first, count } = this.#cover(slots);
    let best = -1;
    let bestCost = Number.POSITIVE_INFINITY;
    for (let place = 0; place < this.#slotAt.length; place++) {
      const occupant = this.#slotAt[place]!;
      if (slots.includes(occupant)) continue;
      const distance = count === 0 ? 0 : Math.max(0, first - place, place - (first + count - 1));
      // Each place further out costs a group in vain; evicting costs a copy later.
      const cost = distance + (occupant === 0 ? 0 : evictionCost);
      if (cost < bestCost) [best, bestCost] = [place, cost];
    }
    invariant(best !== -1, "a call uses no more adapters than there are slots");
    return best;
  }

  /** Swaps the outermost adapter of a call with the first place inside that the call does not need. */
  #moveInwards(slots: readonly number[], first: number, count: number): void {
    const outermost = this.#slotAt[first + count - 1]!;
    let inner = first;
    while (slots.includes(this.#slotAt[inner]!)) inner++;
    this.#vacate(outermost);
    this.#place(outermost, inner);
  }

  #cover(slots: readonly number[]): { first: number; count: number } {
    let first = Number.POSITIVE_INFINITY;
    let last = -1;
    for (const slot of slots) {
      const place = this.#placeOf[slot]!;
      if (place === -1) continue;
      first = Math.min(first, place);
      last = Math.max(last, place);
    }
    return last === -1 ? { first: 0, count: 0 } : { first, count: last - first + 1 };
  }

  #place(slot: number, place: number): void {
    const occupant = this.#slotAt[place]!;
    if (occupant !== 0) this.#vacate(occupant);
    this.#slotAt[place] = slot;
    this.#placeOf[slot] = place;
    const startMs = performance.now();
    const adapter = this.#adapter(slot);
    this.#copy(adapter, place);
    this.#loads.push({ digest: adapter.digest, ms: performance.now() - startMs });
    if (this.#loads.length > loadsKeptMax) this.#loads.shift();
  }

  #vacate(slot: number): void {
    const place = this.#placeOf[slot]!;
    if (place === -1) return;
    this.#slotAt[place] = 0;
    this.#placeOf[slot] = -1;
  }

  /** Fills a place. Rows past a pair's own rank are zero, and zero rows add exactly nothing. */
  #copy(adapter: PackedAdapter, place: number): void {
    this.#copyGains(adapter, place);
    const rank = this.#rank;
    let next = 0;
    for (let layer = 0; layer < this.#layers; layer++) {
      const pairs = adapter.layers[layer];
      for (const { modules, parts } of this.#sites) {
        const a = this.#matrices[next++]!;
        modules.forEach((module, index) => {
          const start = (place * modules.length + index) * rank * a.width;
          a.data.fill(0, start, start + rank * a.width);
          const pair = pairs?.[module];
          if (pair) a.data.set(pair.a, start);
        });
        const b = this.#matrices[next++]!;
        parts.forEach(({ module, column }, index) => {
          const start = (place * parts.length + index) * rank * b.width;
          b.data.fill(0, start, start + rank * b.width);
          const pair = pairs?.[modules[module]!];
          if (!pair) return;
          const out = pair.b.length / pair.rank;
          for (let row = 0; row < pair.rank; row++) {
            const from = row * out + column;
            b.data.set(pair.b.subarray(from, from + b.width), start + row * b.width);
          }
        });
      }
    }
  }

  /** What a part's base product is multiplied with; zero where the adapter leaves it as it is. */
  #copyGains(adapter: PackedAdapter, place: number): void {
    if (this.#gains.length === 0) {
      if (!hasGains(adapter)) return;
      this.#gains = this.#perSite(({ parts, partOut }, { gain }) => [
        this.#room(gain, { matrices: parts.length, rows: 1, width: partOut }),
      ]);
    }
    this.#gains.forEach(({ data, matrices, width }, index) => {
      const { modules, parts } = this.#sites[index % this.#sites.length]!;
      const pairs = adapter.layers[Math.floor(index / this.#sites.length)];
      parts.forEach(({ module, column }, part) => {
        const start = (place * matrices + part) * width;
        data.fill(0, start, start + width);
        const gain = pairs?.[modules[module]!]?.gain;
        if (gain) data.set(gain.subarray(column, column + width), start);
      });
    });
  }
}

/** Whether the adapter is DoRA's, or a mix with one. */
export function hasGains({ layers }: PackedAdapter): boolean {
  return layers.some((pairs) => Object.values(pairs).some(({ gain }) => gain !== undefined));
}

/** All adapters' A, B or gains of one site of one layer: `[places, matrices, rows, width]`. */
type Matrices = { name: string; matrices: number; width: number; data: Float32Array };

/** Ranks are rounded up to 8, 16, 32 and so on, so that few different ones mean few layouts. */
function rankClass(rank: number): number {
  let size = rankStep;
  while (size < rank) size *= 2;
  return size;
}

const rankStep = 8;
/** Copies whose times wait to be asked for. */
const loadsKeptMax = 1000;
/** A layout costs a copy of every adapter in use, about one step's time each; so it is not hurried. */
const callsBeforeShrinking = 512;
/** How many places further out an empty place may be before another adapter is evicted instead. */
const evictionCost = 4;
