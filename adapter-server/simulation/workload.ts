/** The requests of a simulation: when they come, from whom, for which adapter, how long. The same for the same seed. */
import { uniform } from "../engine/philox.ts";
import { requestsMax, type SimulationOptions, type TokenCount } from "./options.ts";

/** Who sends requests: a tenant's stream of them, or one client who waits for each answer. */
type Source = {
  tenant: string;
  stream: number;
  /** Absent: one after the other. */
  perSecond: number | undefined;
  draws: number;
  adapterOf: (share: number) => number | undefined;
};

export type SimulatedRequest = {
  atMs: number;
  source: Source;
  /** By how often it is asked for, the most frequent being 1; absent is the base. */
  adapter: number | undefined;
  /** Tokens with which all of a tenant's prompts for an adapter begin, and those behind them. */
  sharedTokens: number;
  ownTokens: number;
  outputTokens: number;
};

/** The tenant that sends `floodPerSecond`. */
export const floodingTenant = "flooding";

export class Workload {
  readonly #options: SimulationOptions;
  readonly #sources: Source[];
  /** In the order of their arrival. */
  readonly #coming: SimulatedRequest[] = [];
  #taken = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    const { tenants, clients, requestsPerSecond, floodPerSecond } = options;
    const adapterOf = zipfChoice(options.adapters, options.zipf);
    const names = Array.from({ length: Math.max(tenants, clients) }, (_, index) => ({
      tenant: `tenant-${(index % tenants) + 1}`,
      perSecond: clients > 0 ? undefined : requestsPerSecond / tenants,
    }));
    if (floodPerSecond > 0) names.push({ tenant: floodingTenant, perSecond: floodPerSecond });
    this.#sources = names.map((source, stream) => ({ ...source, stream, draws: 0, adapterOf }));
    for (const source of this.#sources) this.#begin(source);
    this.#coming.sort((a, b) => a.atMs - b.atMs);
  }

  /** When the next one comes, as far as is known. */
  get nextAtMs(): number | undefined {
    return this.#coming[this.#taken]?.atMs;
  }

  /** The next one that has come by now. */
  take(nowMs: number): SimulatedRequest | undefined {
    const next = this.#coming[this.#taken];
    if (!next || next.atMs > nowMs) return undefined;
    this.#taken++;
    return next;
  }

  /** The request has its answer: who asks one after the other asks again from this time on. */
  answered({ source }: SimulatedRequest, atMs: number): void {
    if (source.perSecond !== undefined || atMs >= this.#endMs) return;
    if (this.#coming.length >= requestsMax) return;
    let index = this.#coming.length;
    while (index > this.#taken && this.#coming[index - 1]!.atMs > atMs) index--;
    this.#coming.splice(index, 0, this.#draw(source, atMs));
  }

  get #endMs(): number {
    return this.#options.seconds * 1000;
  }

  #begin(source: Source): void {
    if (source.perSecond === undefined) {
      this.#coming.push(this.#draw(source, 0));
      return;
    }
    let atMs = 0;
    for (;;) {
      // Times between arrivals of a Poisson process.
      atMs += (-Math.log(1 - this.#share(source)) / source.perSecond) * 1000;
      if (atMs >= this.#endMs) return;
      this.#coming.push(this.#draw(source, atMs));
    }
  }

  #draw(source: Source, atMs: number): SimulatedRequest {
    return {
      atMs,
      source,
      adapter: source.adapterOf(this.#share(source)),
      sharedTokens: this.#options.sharedTokens,
      ownTokens: tokensOf(this.#options.promptTokens, this.#share(source)),
      outputTokens: tokensOf(this.#options.outputTokens, this.#share(source)),
    };
  }

  #share(source: Source): number {
    return uniform(this.#options.seed, source.stream, source.draws++);
  }
}

/** The tokens of a request's prompt: made when it comes, because all at once would fill the memory. */
export function promptOf(request: SimulatedRequest, id: number): number[] {
  const { source, adapter = 0, sharedTokens, ownTokens } = request;
  const first = 4096 * (1009 * tenantNumber(source.tenant) + adapter);
  const shared = Array.from({ length: sharedTokens }, (_, index) => first + index);
  return shared.concat(Array.from({ length: ownTokens }, (_, index) => -1 - id * 8192 - index));
}

function tenantNumber(tenant: string): number {
  return Number(/\d+$/.exec(tenant)?.[0] ?? 0);
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
