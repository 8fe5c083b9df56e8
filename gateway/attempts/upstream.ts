/** An upstream as requests see it: one name, behind it deployments, and how much may be done beyond one call each. */
import type { Provider } from "../providers/provider.ts";
import { Allowance, type AllowanceOptions } from "./allowance.ts";
import { type Balance, choose, chooseByKey } from "./balance.ts";
import type { Deployment } from "./deployment.ts";
import { Latencies } from "./latencies.ts";

/** A second call where the first is slow to begin. */
export type HedgeSettings = {
  /** `undefined` waits as long as 19 of 20 first bytes took lately. */
  afterMs: number | undefined;
  /** Of the requests, and of their input tokens, that may be asked twice. */
  shareMax: number;
};

/** What keeps requests together whose beginnings providers remember. */
export const stickiness = ["nothing", "named", "prefix"] as const;
export type Stickiness = (typeof stickiness)[number];

export type UpstreamParts = {
  name: string;
  /** Whether it runs on hardware of one's own. */
  own: boolean;
  /** At least one. */
  deployments: readonly Deployment[];
  balance: Balance;
  stickyBy: Stickiness;
  hedge: HedgeSettings | undefined;
  retries: AllowanceOptions;
  /** Uniform in [0, 1). */
  random: () => number;
};

export type ChooseOptions = {
  /** As the upstream calls it. */
  model: string;
  /** Calls of one key go to one deployment, where it can take them. */
  stickyKey: string | undefined;
  except: ReadonlySet<Deployment>;
};

export class Upstream {
  readonly name: string;
  readonly own: boolean;
  readonly stickyBy: Stickiness;
  readonly deployments: readonly Deployment[];
  readonly hedge: HedgeSettings | undefined;
  readonly retries: Allowance;
  readonly #latencies = new Latencies();
  readonly #hedges: { requests: Allowance; inputTokens: Allowance } | undefined;
  readonly #parts: UpstreamParts;

  constructor(parts: UpstreamParts) {
    const { hedge } = parts;
    this.#parts = parts;
    this.name = parts.name;
    this.own = parts.own;
    this.stickyBy = parts.stickyBy;
    this.deployments = parts.deployments;
    this.hedge = parts.deployments.length > 1 ? hedge : undefined;
    this.retries = new Allowance(parts.retries);
    this.#hedges = this.hedge && {
      requests: new Allowance({ share: this.hedge.shareMax, reserve: hedgesReserve }),
      inputTokens: new Allowance({ share: this.hedge.shareMax, reserve: hedgedTokensReserve }),
    };
  }

  /** What all deployments have in common: how they speak, what they serve. */
  get provider(): Provider {
    const usable = this.deployments.find(({ provider }) => provider.notConfigured === undefined);
    const [first] = this.deployments;
    return (usable ?? (first as Deployment)).provider;
  }

  /** When one of the deployments may be tried, `undefined` when one may now. */
  retryAfterMs(): number | undefined {
    const waits = this.#usable().map((it) => it.retryAfterMs());
    return waits.includes(undefined) ? undefined : Math.min(...waits.map((it) => it ?? 0));
  }

  get state(): "closed" | "open" | "half-open" {
    const states = this.#usable().map(({ state }) => state);
    if (states.includes("closed")) return "closed";
    return states.includes("half-open") ? "half-open" : "open";
  }

  /**
   * Those whose limit is not used up before those that rest, lower tiers before higher ones. One that is to be found
   * well again goes first among its like: with any other rule it might never be asked.
   */
  choose({ model, stickyKey, except }: ChooseOptions): Deployment | undefined {
    const ready = this.#usable().filter((it) => !except.has(it) && it.retryAfterMs() === undefined);
    const rank = (it: Deployment) => (it.isParked(model) ? parkedRank : 0) + it.tier;
    const best = Math.min(...ready.map(rank));
    const among = ready.filter((it) => rank(it) === best);
    const probe = among.find(({ state }) => state === "half-open");
    if (probe) return probe;
    const own = stickyKey === undefined ? undefined : chooseByKey(among, stickyKey);
    return own ?? choose(among, this.#parts.balance, this.#parts.random);
  }

  /** An ordinary call is made, which lets retries and hedges be made of some. */
  asked(inputTokens: number): void {
    this.retries.earn(1);
    this.#hedges?.requests.earn(1);
    this.#hedges?.inputTokens.earn(inputTokens);
  }

  observeFirstByte(kind: string, ms: number): void {
    if (this.hedge) this.#latencies.observe(kind, ms);
  }

  /** @returns `undefined` where no second call is to be made, whatever the first does */
  hedgeAfterMs(kind: string): number | undefined {
    return this.hedge && (this.hedge.afterMs ?? this.#latencies.quantile(kind, hedgeQuantile));
  }

  /** Takes a second call, with its input, from what may be asked twice. */
  spendHedge(inputTokens: number): boolean {
    const hedges = this.#hedges;
    if (!hedges?.inputTokens.has(inputTokens)) return false;
    return hedges.requests.spend(1) && hedges.inputTokens.spend(inputTokens);
  }

  #usable(): readonly Deployment[] {
    const usable = this.deployments.filter(({ provider }) => provider.notConfigured === undefined);
    return usable.length > 0 ? usable : this.deployments;
  }
}

const parkedRank = 1_000_000;
const hedgeQuantile = 0.95;
/** What a quiet hour may save up for a bad minute. */
const hedgesReserve = 10;
const hedgedTokensReserve = 100_000;
