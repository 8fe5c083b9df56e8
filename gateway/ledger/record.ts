/** A settled request as one line of JSON: what the spool keeps and the database takes in. */
import { formatUsd, type PicoUsd } from "../../sdk/protocol/money.ts";
import { meters } from "../../sdk/protocol/usage.ts";
import type { PricedModel, Principal, Settlement } from "../metering/types.ts";
import type { Bill } from "./price-book.ts";

/**
 * `priced`: the cost is known. `unpriced`: something was used and its price, or how much it was, is
 * unknown. `unused`: no model answered, so nothing was used and the cost is zero.
 */
export type Pricing = "priced" | "unpriced" | "unused";

export type RecordInput = {
  requestId: string;
  principal: Principal;
  /** Absent for what no batch asked. */
  batchId?: string | undefined;
  /** When the request was reserved: dates its price, its budget period and its line in reports. */
  atMs: number;
  settlement: Settlement;
  /** Absent when unpriced. */
  bill: Bill | undefined;
  /** What the route's default model would have cost for the same usage, where that is known. */
  baselineCost: PicoUsd | undefined;
  /** What a kept answer would have cost if it had been made, where that is known. */
  uncachedCost?: PicoUsd | undefined;
  /** Of calls that gave no answer, where their prices are known. */
  unanswered?: readonly UnansweredBill[] | undefined;
};

export type UnansweredBill = { model: PricedModel; upstream: string; bill: Bill };

/** Field names are the columns of `billing.requests` and `billing.entries`; see `schema.ts`. */
export type LedgerRecord = ReturnType<typeof toRecord>;

export function toRecord({
  requestId,
  principal: { key, project },
  batchId,
  atMs,
  settlement,
  bill,
  baselineCost,
  uncachedCost,
  unanswered = [],
}: RecordInput) {
  const { answered, usage, responseCache } = settlement;
  return {
    request_id: requestId,
    at: new Date(atMs).toISOString(),
    started_at: new Date(settlement.startedAtMs).toISOString(),
    project_id: project.id as string,
    key_id: key.id as string,
    project_name: project.name,
    key_name: key.name,
    owner_id: key.ownerId,
    team: project.team,
    cost_centre: key.costCentre ?? project.costCentre,
    format: settlement.format,
    requested_model: settlement.requestedModel,
    route: settlement.route,
    task: settlement.task,
    end_user: settlement.endUser,
    // What an administrator wrote down no request can change.
    tags: { ...settlement.tags, ...project.tags, ...key.tags },
    batch_id: batchId,
    model: answered?.model,
    adapter: answered?.adapter,
    adapter_version: answered?.adapterVersion,
    adapter_digest: answered?.adapterDigest,
    upstream: answered?.upstream,
    ...Object.fromEntries(meters.map((meter) => [meter, usage?.[meter]])),
    usage_estimated: settlement.estimated,
    usage_inconsistent: settlement.inconsistent ?? false,
    pricing: pricingOf(settlement, bill),
    cost: bill === undefined ? undefined : formatUsd(bill.cost),
    default_model: modelName(settlement.defaultModel),
    baseline_cost: baselineCost === undefined ? undefined : formatUsd(baselineCost),
    response_cache: responseCache && ("hit" as const),
    saved_usage: responseCache?.usage,
    uncached_cost: uncachedCost === undefined ? undefined : formatUsd(uncachedCost),
    outcome: settlement.outcome,
    http_status: settlement.httpStatus,
    error_code: settlement.errorCode,
    stream: settlement.stream,
    ttft_ms: settlement.ttftMs,
    duration_ms: settlement.durationMs,
    timings: settlement.timings,
    decision: settlement.decision,
    entries: [
      ...(bill === undefined || answered === undefined
        ? []
        : toEntries(bill, {
            account: `expense:${project.id}`,
            against: responseCache ? "income:response_cache" : `accrual:${answered.upstream}`,
          })),
      ...unanswered.flatMap(({ model, upstream, bill }) =>
        toEntries(bill, {
          account: unansweredAccount,
          against: `accrual:${upstream}`,
          model: modelName(model),
        }),
      ),
    ],
  };
}

export type LedgerEntry = {
  account: string;
  /** Debits are positive, credits negative; a request's entries sum to zero. */
  amount: string;
  meter?: string;
  quantity?: number;
  price_id?: string;
  /** Where that is not the model that answered. */
  model?: string | undefined;
};

/** What the operator pays for calls that gave no answer: no project asked for them. */
export const unansweredAccount = "overhead:unanswered";

/**
 * The record as JSON that Postgres accepts as `jsonb`, which knows neither NUL nor lone surrogates;
 * both become U+FFFD. Too long a record goes without its decision.
 */
export function serializeRecord(record: LedgerRecord, bytesMax: number): string {
  const line = storable(JSON.stringify(record));
  if (Buffer.byteLength(line) <= bytesMax) return line;
  return storable(JSON.stringify({ ...record, decision: { omitted: "too large" } }));
}

function pricingOf(settlement: Settlement, bill: Bill | undefined): Pricing {
  if (settlement.answered === undefined) return "unused";
  return bill === undefined ? "unpriced" : "priced";
}

/**
 * An expense, a line for each meter, against what accrues to the upstream; of a kept answer, for which no upstream will
 * send an invoice, against what the response cache earns.
 */
function toEntries(
  bill: Bill,
  { account, against, model }: { account: string; against: string; model?: string | undefined },
): LedgerEntry[] {
  if (bill.lines.length === 0) return [];
  const debits = bill.lines.map(({ meter, quantity, priceId, amount }) => ({
    account,
    amount: formatUsd(amount),
    meter,
    quantity,
    price_id: priceId,
    model,
  }));
  return [...debits, { account: against, amount: formatUsd(-bill.cost), model }];
}

function modelName(model: Settlement["defaultModel"]): string | undefined {
  if (model === undefined) return undefined;
  return model.adapter === undefined ? model.model : `${model.model}:${model.adapter}`;
}

/** JSON as Postgres takes it. Walks over escaped backslashes first, so that text which only looks like an escape is left alone. */
export function storable(json: string): string {
  if (!json.includes("\\u")) return json;
  return json.replace(/\\(\\|u0000|ud[89a-f][0-9a-f]{2})/g, (sequence) =>
    sequence === "\\\\" ? sequence : "\ufffd",
  );
}
