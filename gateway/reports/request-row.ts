/** A settled request as reports and the live log tell it, and what it can be found by. */
import type postgres from "postgres";
import { z } from "zod";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { meters, tokenMeters, unitMeters } from "../../sdk/protocol/usage.ts";
import { keptName } from "../identity/end-user.ts";
import { single } from "./query.ts";
import { columnList, count, type Fragment } from "./sql.ts";

/** `projectId` absent: an admin, who sees all projects. */
export type Viewer = { projectId: string | undefined };

export type RequestRow = ReturnType<typeof toRequest>;

export function requestColumns(sql: postgres.Sql): Fragment {
  const names = [...plainColumns, ...meters, "ttft_ms", "duration_ms"].map(
    (name) => sql`${sql(name)}`,
  );
  return sql`request_id, ${columnList(sql, names)}, tags, timings, cost::text as cost,
    baseline_cost::text as baseline_cost, response_cache, saved_usage,
    uncached_cost::text as uncached_cost, extract(epoch from at)::float8 as at_seconds`;
}

export function toRequest(row: postgres.Row) {
  return {
    id: row.request_id as string,
    object: "request" as const,
    at: new Date(Math.round(row.at_seconds * 1000)).toISOString(),
    ...(Object.fromEntries(plainColumns.map((name) => [name, row[name]])) as Record<
      (typeof plainColumns)[number],
      string | number | boolean | null
    >),
    tags: row.tags,
    tokens: Object.fromEntries(tokenMeters.map((meter) => [meter, count(row[meter])])),
    units: Object.fromEntries(unitMeters.map((meter) => [meter, count(row[meter])])),
    cost_usd: row.cost === null ? null : formatUsd(parseUsd(row.cost)),
    default_model_cost_usd:
      row.baseline_cost === null ? null : formatUsd(parseUsd(row.baseline_cost)),
    /** What the first answer used, and what that would cost today; null where the model was asked. */
    response_cache:
      row.response_cache === null
        ? null
        : {
            result: row.response_cache as string,
            saved_usage: row.saved_usage as Record<string, number>,
            uncached_cost_usd:
              row.uncached_cost === null ? null : formatUsd(parseUsd(row.uncached_cost)),
          },
    ttft_ms: row.ttft_ms as number | null,
    duration_ms: row.duration_ms as number,
    /** Milliseconds by part; null in rows from before they were kept. */
    timings: row.timings as Record<string, number> | null,
  };
}

const text = single(z.string().max(512).optional());

/** What the list and the live log take as filters. */
export const requestFilters = z.object({
  project: text,
  key: text,
  model: text,
  adapter: text,
  task: text,
  user: single(z.string().max(512).transform(keptName).optional()),
  owner: text,
  cost_centre: text,
  route: text,
  upstream: text,
  outcome: text,
  error: text,
  /** `429`, or all of a kind as `5xx`. */
  status: single(
    z
      .string()
      .regex(/^[1-5](\d\d|xx)$/, 'expected a status such as "429", or "5xx"')
      .optional(),
  ),
  pricing: single(z.enum(["priced", "unpriced", "unused"]).optional()),
});
export type RequestFilters = z.infer<typeof requestFilters>;

export function conditionsOf(
  sql: postgres.Sql,
  { status, ...filters }: RequestFilters,
  { projectId }: Viewer,
): Fragment[] {
  const equal = Object.entries(filters).flatMap(([name, value]) =>
    value === undefined ? [] : [sql`${sql(columnOf[name as keyof typeof columnOf])} = ${value}`],
  );
  return [
    ...(projectId === undefined ? [] : [sql`project_id = ${projectId}`]),
    ...equal,
    ...(status === undefined ? [] : [statusIn(sql, statusRange(status))]),
  ];
}

/** The same of a row that is here already. */
export function matches(
  row: RequestRow,
  { status, ...filters }: RequestFilters,
  { projectId }: Viewer,
): boolean {
  if (projectId !== undefined && row.project_id !== projectId) return false;
  for (const [name, value] of Object.entries(filters)) {
    if (value !== undefined && row[columnOf[name as keyof typeof columnOf]] !== value) return false;
  }
  if (status === undefined) return true;
  const [from, to] = statusRange(status);
  return Number(row.http_status) >= from && Number(row.http_status) < to;
}

function statusIn(sql: postgres.Sql, [from, to]: readonly [number, number]): Fragment {
  const within = sql`http_status >= ${from} and http_status < ${to}`;
  // So that the index of what failed, which is the smaller part, serves it.
  return from >= 400 ? sql`${within} and outcome <> 'ok'` : within;
}

function statusRange(status: string): readonly [number, number] {
  const from = Number(status.replace("xx", "00"));
  return [from, status.endsWith("xx") ? from + 100 : from + 1];
}

const columnOf = {
  project: "project_id",
  key: "key_id",
  model: "model",
  adapter: "adapter",
  task: "task",
  user: "end_user",
  owner: "owner_id",
  cost_centre: "cost_centre",
  route: "route",
  upstream: "upstream",
  outcome: "outcome",
  error: "error_code",
  pricing: "pricing",
} as const;

const plainColumns = [
  "project_id",
  "project_name",
  "key_id",
  "key_name",
  "owner_id",
  "team",
  "cost_centre",
  "requested_model",
  "route",
  "task",
  "end_user",
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
