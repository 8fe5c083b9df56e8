/** What the request path and the accounts hand each other: a reservation before, a settlement after. */
import type { ApiKey, Project } from "../../sdk/protocol/catalog.ts";
import type { RequestId } from "../../sdk/protocol/ids.ts";
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import type { UsageVector } from "../../sdk/protocol/usage.ts";

/** Who asks: a valid project key and the project it belongs to. */
export type Principal = { key: ApiKey; project: Project };

/** A model that a request may end up at: `adapter` when it is `base:adapter`. */
export type PricedModel = { model: string; adapter?: string };

/** The worst that a request may use, told before it is sent anywhere. */
export type ReserveRequest = {
  requestId: RequestId;
  principal: Principal;
  /** Every model in the plan; the dearest decides what is reserved. */
  models: readonly PricedModel[];
  inputTokens: number;
  outputTokensMax: number;
};

/** What happened, told once, whatever happened. */
export type Settlement = {
  /** The model that answered; absent when none did. */
  answered?: PricedModel & { adapterVersion?: number; adapterDigest?: string; upstream: string };
  /** Absent when the provider told nothing and nothing could be estimated. */
  usage?: UsageVector;
  /** True when `usage` was counted by us instead of reported by the provider. */
  estimated: boolean;
  /** True when the provider's counts contradicted each other and were clamped; see `ledger/usage.ts`. */
  inconsistent?: boolean;
  outcome: "ok" | "client_gone" | "upstream_failed" | "refused";
  httpStatus: number;
  errorCode?: string;
  requestedModel: string;
  route?: string;
  /** The route's default model: what its price would have made of the same usage is the saving's baseline. */
  defaultModel?: PricedModel;
  task?: string;
  tags: Readonly<Record<string, string>>;
  stream: boolean;
  startedAtMs: number;
  ttftMs?: number;
  durationMs: number;
  /** Why this model: the plan as `routes explain` shows it, and what each attempt met. */
  decision?: unknown;
};

export type Settled = {
  /** Absent when the price, or the usage, is unknown: `unpriced`, never zero. */
  cost?: PicoUsd;
};

/** A held share of limits and budgets. Exactly one `settle` counts; an unsettled one expires. */
export type Reservation = {
  /** `x-ratelimit-*` headers for the answer. */
  headers: Readonly<Record<string, string>>;
  /**
   * Prices the usage, writes it to the spool, gives back what was reserved and not used. Resolves once
   * the record would survive a kill of the process. A second call changes nothing.
   */
  settle(settlement: Settlement): Promise<Settled>;
};

/** Limits, budgets and ledger behind one door, so that no route can use a model without them. */
export type Accounts = {
  /**
   * @throws HubError `rate_limit_exceeded`, `insufficient_quota` (naming scope, limit, spent and reset),
   *   `no_price` (where the project refuses what has no price), `storage_full`
   */
  reserve(request: ReserveRequest): Promise<Reservation>;
};
