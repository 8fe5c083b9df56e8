/** A settled request as one line of JSON: what the spool keeps and the database takes in. */
import { formatUsd, type PicoUsd } from "../../sdk/protocol/money.ts";
import { meters } from "../../sdk/protocol/usage.ts";
import type { Principal, Settlement } from "../metering/types.ts";
import type { Bill } from "./price-book.ts";

/**
 * `priced`: the cost is known. `unpriced`: something was used and its price, or how much it was, is
 * unknown. `unused`: no model answered, so nothing was used and the cost is zero.
 */
export type Pricing = "priced" | "unpriced" | "unused";

export type RecordInput = {
  requestId: string;
  principal: Principal;
  /** When the request was reserved: dates its price, its budget period and its line in reports. */
  atMs: number;
  settlement: Settlement;
  /** Absent when unpriced. */
  bill: Bill | undefined;
  /** What the route's default model would have cost for the same usage, where that is known. */
  baselineCost: PicoUsd | undefined;
};

/** Field names are the columns of `billing.requests` and `billing.entries`; see `schema.ts`. */
export type LedgerRecord = ReturnType<typeof toRecord>;

export function toRecord({
  requestId,
  principal: { key, project },
  atMs,
  settlement,
  bill,
  baselineCost,
}: RecordInput) {
  const { answered, usage } = settlement;
  return {
    request_id: requestId,
    at: new Date(atMs).toISOString(),
    started_at: new Date(settlement.startedAtMs).toISOString(),
    project_id: project.id as string,
    key_id: key.id as string,
    project_name: project.name,
    key_name: key.name,
    team: project.team,
    cost_centre: project.costCentre,
    requested_model: settlement.requestedModel,
    route: settlement.route,
    task: settlement.task,
    tags: settlement.tags,
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
    outcome: settlement.outcome,
    http_status: settlement.httpStatus,
    error_code: settlement.errorCode,
    stream: settlement.stream,
    ttft_ms: settlement.ttftMs,
    duration_ms: settlement.durationMs,
    decision: settlement.decision,
    entries:
      bill === undefined || answered === undefined
        ? []
        : toEntries(bill, project.id, answered.upstream),
  };
}

export type LedgerEntry = {
  account: string;
  /** Debits are positive, credits negative; a request's entries sum to zero. */
  amount: string;
  meter?: string;
  quantity?: number;
  price_id?: string;
};

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

/** The project's expense, a line for each meter, against what accrues to the upstream. */
function toEntries(bill: Bill, projectId: string, upstream: string): LedgerEntry[] {
  if (bill.lines.length === 0) return [];
  const debits = bill.lines.map(({ meter, quantity, priceId, amount }) => ({
    account: `expense:${projectId}`,
    amount: formatUsd(amount),
    meter,
    quantity,
    price_id: priceId,
  }));
  return [...debits, { account: `accrual:${upstream}`, amount: formatUsd(-bill.cost) }];
}

function modelName(model: Settlement["defaultModel"]): string | undefined {
  if (model === undefined) return undefined;
  return model.adapter === undefined ? model.model : `${model.model}:${model.adapter}`;
}

/** Walks over escaped backslashes first, so that text which only looks like an escape is left alone. */
function storable(json: string): string {
  if (!json.includes("\\u")) return json;
  return json.replace(/\\(\\|u0000|ud[89a-f][0-9a-f]{2})/g, (sequence) =>
    sequence === "\\\\" ? sequence : "\ufffd",
  );
}
