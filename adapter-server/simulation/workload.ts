/** The requests of a simulation: when they come, from whom, for which adapter, how long. The same for the same seed. */
import { uniform } from "../engine/philox.ts";
import type { SimulationOptions, TokenCount } from "./options.ts";

export type SimulatedRequest = {
  atMs: number;
  tenant: string;
  /** By how often it is asked for, the most frequent being 1; absent is the base. */
  adapter: number | undefined;
  /** The same for a tenant's requests for an adapter. */
  beginning: { stream: number; adapter: number | undefined; length: number };
  /** Tokens of the prompt behind its beginning. */
  ownTokens: number;
  outputTokens: number;
};

/** The tenant that sends `floodPerSecond`. */
export const floodingTenant = "flooding";

/** All requests in the order of their arrival. */
export function createWorkload(options: SimulationOptions): SimulatedRequest[] {
  const { seed, tenants, requestsPerSecond, floodPerSecond } = options;
  const adapterOf = zipfChoice(options.adapters, options.zipf);
  const all: SimulatedRequest[] = [];
  const sources = Array.from({ length: tenants }, (_, index) => ({
    ...{ tenant: `tenant-${index + 1}`, perSecond: requestsPerSecond / tenants },
  }));
  if (floodPerSecond > 0) sources.push({ tenant: floodingTenant, perSecond: floodPerSecond });
  for (const [stream, { tenant, perSecond }] of sources.entries()) {
    let draws = 0;
    const draw = () => uniform(seed, stream, draws++);
    let atMs = 0;
    for (;;) {
      // Times between arrivals of a Poisson process.
      atMs += (-Math.log(1 - draw()) / perSecond) * 1000;
      if (atMs >= options.seconds * 1000) break;
      const adapter = adapterOf(draw());
      const beginning = { stream, adapter, length: options.sharedTokens };
      const ownTokens = tokensOf(options.promptTokens, draw());
      const outputTokens = tokensOf(options.outputTokens, draw());
      all.push({ atMs, tenant, adapter, beginning, ownTokens, outputTokens });
    }
  }
  return all.sort((a, b) => a.atMs - b.atMs);
}

/** The tokens of a request's prompt: made when it comes, because all at once would fill the memory. */
export function promptOf({ beginning, ownTokens }: SimulatedRequest, id: number): number[] {
  const { stream, adapter = 0, length } = beginning;
  const shared = Array.from({ length }, (_, index) => (stream * 1009 + adapter) * 4096 + index);
  return shared.concat(Array.from({ length: ownTokens }, (_, index) => -1 - id * 8192 - index));
}

function tokensOf(count: TokenCount, share: number): number {
  switch (count.type) {
    case "fixed":
      return count.tokens;
    case "uniform":
      return count.from + Math.floor(share * (count.to - count.from + 1));
    case "exponential":
      return Math.max(1, Math.round(Math.min(8, -Math.log(1 - share)) * count.mean));
    default:
      return count satisfies never;
  }
}

/** @returns the adapter that a share from 0 to 1 falls to */
function zipfChoice(adapters: number, exponent: number): (share: number) => number | undefined {
  const sums: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= adapters; rank++) {
    sum += rank ** -exponent;
    sums.push(sum);
  }
  return (share) => {
    if (adapters === 0) return undefined;
    let [low, high] = [0, adapters - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! > share * sum) high = middle;
      else low = middle + 1;
    }
    return low + 1;
  };
}
