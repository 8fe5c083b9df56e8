/** `GET /api/requests` and `/api/requests/:id`: settled requests, newest first, and one with its decision. */
import type postgres from "postgres";
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { requestId } from "../../sdk/protocol/ids.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { meters } from "../../sdk/protocol/usage.ts";
import { moment, readQuery, refuseUnknown, single, wholeNumber } from "./query.ts";
import { all, at, columnList, count, type Fragment } from "./sql.ts";

/** `projectId` absent: an admin, who sees all projects. */
export type Viewer = { projectId: string | undefined };

export async function listRequests(sql: postgres.Sql, url: string, viewer: Viewer) {
  const raw = readQuery(url);
  refuseUnknown(raw, Object.keys(listQuery.shape));
  const { limit, after, from, to, ...filters } = parseOrThrow(listQuery, raw);
  const conditions = [
    ...visibleTo(sql, viewer),
    ...(after === undefined ? [] : [sql`request_id < ${after}`]),
    ...(from === undefined ? [] : [sql`at >= ${at(sql, from)}`]),
    ...(to === undefined ? [] : [sql`at < ${at(sql, to)}`]),
    ...Object.entries(filters).flatMap(([name, value]) =>
      value === undefined
        ? []
        : [sql`${sql(filterColumns[name as keyof typeof filterColumns])} = ${value}`],
    ),
  ];
  const rows = await sql`
    select ${columns(sql)} from billing.requests where ${all(sql, conditions)}
    order by request_id desc limit ${limit + 1}`;
  const data = rows.slice(0, limit).map(toRequest);
  return {
    object: "list" as const,
    data,
    has_more: rows.length > limit,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}

/** @throws HubError `not_found` for unknown requests and for other projects' */
export async function retrieveRequest(sql: postgres.Sql, id: string, viewer: Viewer) {
  const conditions = all(sql, [sql`request_id = ${id}`, ...visibleTo(sql, viewer)]);
  const [row] = requestId.safeParse(id).success
    ? await sql`select ${columns(sql)}, decision from billing.requests where ${conditions}`
    : [];
  if (row === undefined) {
    throw new HubError(
      "not_found",
      `No request '${id.slice(0, 64)}' is in the ledger. A request appears there within a second of its end.`,
    );
  }
  const entries = await sql`
    select account, amount::text as amount, meter, quantity, price_id
    from billing.entries where request_id = ${id} order by id`;
  return {
    ...toRequest(row),
    decision: row.decision ?? null,
    entries: entries.map((entry) => ({
      account: entry.account as string,
      /** Debits are positive, credits negative; together they are zero. */
      amount_usd: formatUsd(parseUsd(entry.amount)),
      meter: entry.meter as string | null,
      quantity: count(entry.quantity),
      price_id: entry.price_id as string | null,
    })),
  };
}

function visibleTo(sql: postgres.Sql, { projectId }: Viewer): Fragment[] {
  return projectId === undefined ? [] : [sql`project_id = ${projectId}`];
}

function columns(sql: postgres.Sql): Fragment {
  const names = [...plainColumns, ...meters, "ttft_ms", "duration_ms"].map(
    (name) => sql`${sql(name)}`,
  );
  return sql`request_id, ${columnList(sql, names)}, tags, cost::text as cost,
    baseline_cost::text as baseline_cost, extract(epoch from at)::float8 as at_seconds`;
}

function toRequest(row: postgres.Row) {
  return {
    id: row.request_id as string,
    object: "request" as const,
    at: new Date(Math.round(row.at_seconds * 1000)).toISOString(),
    ...Object.fromEntries(plainColumns.map((name) => [name, row[name]])),
    tags: row.tags,
    tokens: Object.fromEntries(meters.map((meter) => [meter, count(row[meter])])),
    cost_usd: row.cost === null ? null : formatUsd(parseUsd(row.cost)),
    default_model_cost_usd:
      row.baseline_cost === null ? null : formatUsd(parseUsd(row.baseline_cost)),
    ttft_ms: row.ttft_ms as number | null,
    duration_ms: row.duration_ms as number,
  };
}

const plainColumns = [
  "project_id",
  "project_name",
  "key_id",
  "key_name",
  "team",
  "cost_centre",
  "requested_model",
  "route",
  "task",
  "model",
  "adapter",
  "adapter_version",
  "adapter_digest",
  "upstream",
  "default_model",
  "usage_estimated",
  "usage_inconsistent",
  "pricing",
  "outcome",
  "http_status",
  "error_code",
  "stream",
] as const;

const filterColumns = {
  project: "project_id",
  key: "key_id",
  model: "model",
  adapter: "adapter",
  task: "task",
  route: "route",
  upstream: "upstream",
  outcome: "outcome",
  pricing: "pricing",
} as const;

const text = single(z.string().max(512).optional());
const listQuery = z.object({
  limit: single(wholeNumber.pipe(z.int().min(1).max(100)).default(20)),
  after: single(requestId.optional()),
  from: single(moment.optional()),
  to: single(moment.optional()),
  project: text,
  key: text,
  model: text,
  adapter: text,
  task: text,
  route: text,
  upstream: text,
  outcome: text,
  pricing: single(z.enum(["priced", "unpriced", "unused"]).optional()),
});
