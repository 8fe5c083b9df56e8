/** What the request path and the accounts hand each other: a reservation before, a settlement after. */
import type { ApiKey, Project } from "../../sdk/protocol/catalog.ts";
import type { RequestId } from "../../sdk/protocol/ids.ts";
import type { PicoUsd } from "../../sdk/protocol/money.ts";
import type { UsageVector } from "../../sdk/protocol/usage.ts";
import type { Tariff } from "../ledger/price-book.ts";
import type { RequestTimings } from "../observing/timings.ts";
import type { FormatName } from "../providers/format.ts";

/** Who asks: a valid project key and the project it belongs to. */
export type Principal = { key: ApiKey; project: Project };

/** A model that a request may end up at: `adapter` when it is `base:adapter`. */
export type PricedModel = { model: string; adapter?: string };

/** The worst that a request may use, told before it is sent anywhere. */
export type ReserveRequest = {
  requestId: RequestId;
  principal: Principal;
  /** Of the batch that it is a line of, which may have prices of its own. */
  batchId?: string | undefined;
  /** Every model in the plan; the dearest decides what is reserved. */
  models: readonly PricedModel[];
  /** Whom the request is for, as its sender says. */
  endUser: string | undefined;
  inputTokens: number;
  outputTokensMax: number;
  /** How it may be billed, where that is not as text. */
  tariffs?: readonly Tariff[] | undefined;
};

/** What happened, told once, whatever happened. */
export type Settlement = {
  /** The model that answered; absent when none did. */
  answered?: PricedModel & { adapterVersion?: number; adapterDigest?: string; upstream: string };
  /** Absent when the provider told nothing and nothing could be estimated. */
  usage?: UsageVector;
  /** Of an answer that was kept: what it used when it was made. Then `usage` is what it uses now, which is nothing. */
  responseCache?: { usage: UsageVector; estimated: boolean };
  /** True when `usage` was counted by us instead of reported by the provider. */
  estimated: boolean;
  /**
   * Calls that gave no answer and that a provider may charge for, such as a hedge that lost. They are none of the
   * project's cost; the operator's books and the organisation's budgets have them.
   */
  unanswered?: readonly (PricedModel & {
    upstream: string;
    usage: UsageVector;
    estimated?: true;
  })[];
  /** True when the provider's counts contradicted each other and were clamped; see `ledger/usage.ts`. */
  inconsistent?: boolean;
  outcome: "ok" | "client_gone" | "upstream_failed" | "refused";
  httpStatus: number;
  errorCode?: string;
  /** How the client asked. */
  format?: FormatName;
  requestedModel: string;
  route?: string;
  /** The route's default model: what its price would have made of the same usage is the saving's baseline. */
  defaultModel?: PricedModel;
  task?: string;
  endUser?: string | undefined;
  tags: Readonly<Record<string, string>>;
  stream: boolean;
  startedAtMs: number;
  ttftMs?: number;
  durationMs: number;
  /** Where the time went, in milliseconds. */
  timings?: RequestTimings;
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
  /**
   * What is followed while a model answers in a stream; absent where no budget is used up by that, or nobody knows what
   * it costs.
   */
  allowance?(answered: PricedModel): Allowance | undefined;
  /** Gives everything back, and nothing is recorded: for what was held and never asked of anyone. */
  release(): Promise<void>;
};

/** What a stream has used so far, or will have: its input as it was told, where that is not what was reserved. */
export type StreamUse = { inputTokens?: number | undefined; outputTokens: number };

/** What is reserved for an answer that has begun. */
export type Allowance = {
  /** Tokens of output that are reserved beyond that use; negative where not even that is. */
  left(used: StreamUse): number;
  /** Reserves for that use in every scope. @throws HubError `insufficient_quota`, and then nothing more is reserved */
  extend(used: StreamUse): Promise<void>;
};

/** Limits, budgets and ledger behind one door, so that no route can use a model without them. */
export type Accounts = {
  /**
   * @throws HubError `rate_limit_exceeded`, `insufficient_quota` (naming scope, limit, spent and reset),
   *   `no_price` (where the project refuses what has no price), `storage_full`
   */
  reserve(request: ReserveRequest): Promise<Reservation>;
  /**
   * Lets in a request that asks no model for an answer, such as for a count: under the limits of requests, without tokens,
   * money or a record.
   * @returns to be called when it is over
   * @throws HubError `rate_limit_exceeded`
   */
  admit(request: Pick<ReserveRequest, "requestId" | "principal" | "models">): Promise<Admission>;
};

export type Admission = Pick<Reservation, "headers"> & { leave(): Promise<void> };
