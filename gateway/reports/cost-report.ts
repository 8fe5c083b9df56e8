/** `GET /api/reports/costs`: what was spent, by whatever finance groups it by, exact to the pico-dollar. */
import { stringify } from "csv-stringify/sync";
import type postgres from "postgres";
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { meters, tokenMeters, unitMeters } from "../../sdk/protocol/usage.ts";
import { list, moment, readQuery, refuseUnknown, single } from "./query.ts";
import { all, at, columnList, count, type Fragment } from "./sql.ts";

/** Sums over a group, or over everything. Tokens and units that no request reported are null, not zero. */
export type CostFigures = {
  requests: number;
  /** Of them, those whose cost is unknown; they are in no amount below. */
  unpriced_requests: number;
  tokens: Record<(typeof tokenMeters)[number], number | null>;
  units: Record<(typeof unitMeters)[number], number | null>;
  cost_usd: string;
  saving: {
    /** An estimate: the default model would have counted, and written, other tokens. */
    estimate: true;
    /** Requests that had a default model with a price, what they cost, and what it would have cost. */
    requests: number;
    cost_usd: string;
    default_model_cost_usd: string;
    saving_usd: string;
  };
  /** Of the requests, those that the response cache answered. */
  response_cache: {
    hits: number;
    /** What they cost at their own price; it is in `cost_usd`. */
    cost_usd: string;
    /** Those of which it is known what their answers would have cost, that cost, and by how much it is more. */
    priced_hits: number;
    uncached_cost_usd: string;
    saving_usd: string;
  };
};

export type CostReport = {
  object: "cost_report";
  from: string;
  to: string;
  currency: "usd";
  group_by: string[];
  data: (Record<string, string | null> & CostFigures)[];
  totals: CostFigures;
};

export type CostReportOptions = {
  /** Absent for an admin, who sees all projects. */
  projectId: string | undefined;
  nowMs: number;
  /** As people know the owner of a key now; the ledger keeps ids alone. */
  ownerName?: ((id: string) => string | undefined) | undefined;
};

/** @throws HubError `invalid_value` where more than `rowsMax` groups would have to be cut off */
export async function costReport(
  sql: postgres.Sql,
  url: string,
  { projectId, nowMs, ownerName }: CostReportOptions,
): Promise<{ report: CostReport; format: "json" | "csv" }> {
  const raw = readQuery(url);
  refuseUnknown(raw, Object.keys(reportQuery.shape));
  const query = parseOrThrow(reportQuery, raw);
  const toMs = query.to ?? nowMs;
  const fromMs = query.from ?? toMs - defaultPeriodMs;
  if (fromMs >= toMs)
    throw new HubError("invalid_value", "Invalid 'to': it must come after 'from'.", {
      param: "to",
    });

  const groups = [...new Set(query.group_by)].flatMap((group) => columnsOf(sql, group));
  const filter = all(sql, [
    sql`at >= ${at(sql, fromMs)}`,
    sql`at < ${at(sql, toMs)}`,
    ...(projectId === undefined ? [] : [sql`project_id = ${projectId}`]),
  ]);
  const [total, rows] = await readFigures(sql, groups, filter);
  if (rows.length > rowsMax) {
    throw new HubError(
      "invalid_value",
      `The report has more than ${rowsMax} rows. Ask for a shorter period or fewer groups.`,
      { param: "group_by" },
    );
  }
  const report: CostReport = {
    object: "cost_report",
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
    currency: "usd",
    group_by: query.group_by,
    data: rows.map((row) => ({
      ...Object.fromEntries(
        groups.flatMap(({ name }, index) => {
          const value = row[`g${index}`] ?? null;
          return name === "owner"
            ? [
                [name, value],
                ["owner_name", ownerName?.(value) ?? null],
              ]
            : [[name, value]];
        }),
      ),
      ...toFigures(row),
    })) as CostReport["data"],
    totals: toFigures(total),
  };
  return { report, format: query.format };
}

type Column = { name: string; column: Fragment };

/** The sums over everything and over each group, from one pass over the rows. */
async function readFigures(
  sql: postgres.Sql,
  groups: readonly Column[],
  filter: Fragment,
): Promise<[total: postgres.Row, rows: postgres.Row[]]> {
  const names = groups.map((_, index) => sql`${sql(`g${index}`)}`);
  const keys = groups.map(({ column }, index) => sql`${column} as ${sql(`g${index}`)}`);
  const counted = [
    ...["pricing", "cost", "baseline_cost", "response_cache", "uncached_cost"],
    ...meters,
  ].map((name) => sql`${sql(name)}`);
  const source = sql`select ${columnList(sql, [...keys, ...counted])}
    from billing.requests where ${filter}`;
  if (groups.length === 0) {
    const [total = {}] = await sql`select ${figures(sql)} from (${source}) as request`;
    return [total, [total]];
  }
  const rows = await sql`
    select ${columnList(sql, names)}, grouping(g0) as is_total, ${figures(sql)}
    from (${source}) as request
    group by grouping sets ((${columnList(sql, names)}), ())
    order by is_total desc, sum(cost) desc nulls last, ${columnList(sql, names)}
    limit ${rowsMax + 2}`;
  return [rows[0] ?? {}, rows.slice(1)];
}

/** Ids come with the names they had, so that a report can be read without another look-up. */
function columnsOf(sql: postgres.Sql, group: string): Column[] {
  const tag = /^tag:(.+)$/.exec(group)?.[1];
  if (tag !== undefined) return [{ name: group, column: sql`tags ->> ${tag}::text` }];
  const utc = sql`at at time zone 'utc'`;
  switch (group as (typeof namedGroups)[number]) {
    case "project":
      return [
        { name: "project", column: sql`project_id` },
        { name: "project_name", column: sql`project_name` },
      ];
    case "key":
      return [
        { name: "key", column: sql`key_id` },
        { name: "key_name", column: sql`key_name` },
      ];
    case "owner":
      return [{ name: "owner", column: sql`owner_id` }];
    case "day":
      return [{ name: "day", column: sql`to_char(${utc}, 'YYYY-MM-DD')` }];
    case "hour":
      return [{ name: "hour", column: sql`to_char(${utc}, 'YYYY-MM-DD"T"HH24:00:00"Z"')` }];
    default:
      return [{ name: group, column: sql`${sql(group)}` }];
  }
}

function figures(sql: postgres.Sql): Fragment {
  const compared = sql`filter (where cost is not null and baseline_cost is not null)`;
  const hit = sql`response_cache is not null`;
  const saved = sql`filter (where ${hit} and cost is not null and uncached_cost is not null)`;
  return sql`count(*) as requests, count(*) filter (where pricing = 'unpriced') as unpriced,
    ${columnList(
      sql,
      meters.map((meter) => sql`sum(${sql(meter)}) as ${sql(`sum_${meter}`)}`),
    )},
    sum(cost)::text as cost, count(*) ${compared} as compared,
    sum(cost) ${compared}::text as compared_cost, sum(baseline_cost) ${compared}::text as baseline_cost,
    count(*) filter (where ${hit}) as hits, sum(cost) filter (where ${hit})::text as hit_cost,
    count(*) ${saved} as saved, sum(uncached_cost) ${saved}::text as uncached_cost,
    sum(uncached_cost - cost) ${saved}::text as saved_cost`;
}

function toFigures(row: postgres.Row): CostFigures {
  const cost = parseUsd(row.compared_cost ?? "0");
  const baseline = parseUsd(row.baseline_cost ?? "0");
  return {
    requests: Number(row.requests ?? 0),
    unpriced_requests: Number(row.unpriced ?? 0),
    tokens: Object.fromEntries(
      tokenMeters.map((meter) => [meter, count(row[`sum_${meter}`])]),
    ) as CostFigures["tokens"],
    units: Object.fromEntries(
      unitMeters.map((meter) => [meter, count(row[`sum_${meter}`])]),
    ) as CostFigures["units"],
    cost_usd: formatUsd(parseUsd(row.cost ?? "0")),
    saving: {
      estimate: true,
      requests: Number(row.compared ?? 0),
      cost_usd: formatUsd(cost),
      default_model_cost_usd: formatUsd(baseline),
      saving_usd: formatUsd(baseline - cost),
    },
    response_cache: {
      hits: Number(row.hits ?? 0),
      cost_usd: formatUsd(parseUsd(row.hit_cost ?? "0")),
      priced_hits: Number(row.saved ?? 0),
      uncached_cost_usd: formatUsd(parseUsd(row.uncached_cost ?? "0")),
      saving_usd: formatUsd(parseUsd(row.saved_cost ?? "0")),
    },
  };
}

/**
 * RFC 4180, one header line. Text that a spreadsheet would run as a formula gets an apostrophe; our own
 * numbers, negative ones too, stay numbers.
 */
export function toCsv({ group_by: _groups, data }: CostReport): string {
  const rows = data.map(({ tokens, units, saving, response_cache: cache, ...figures }) => {
    const { requests, unpriced_requests, cost_usd, ...keys } = figures;
    return {
      ...Object.fromEntries(Object.entries(keys).map(([name, key]) => [name, guardFormula(key)])),
      requests,
      unpriced_requests,
      ...Object.fromEntries(tokenMeters.map((meter) => [`${meter}_tokens`, tokens[meter]])),
      ...units,
      cost_usd,
      currency: "usd",
      estimated_saving_requests: saving.requests,
      estimated_default_model_cost_usd: saving.default_model_cost_usd,
      estimated_saving_usd: saving.saving_usd,
      response_cache_hits: cache.hits,
      response_cache_cost_usd: cache.cost_usd,
      response_cache_saving_usd: cache.saving_usd,
    };
  });
  return stringify(rows, { header: true, record_delimiter: "windows" });
}

function guardFormula(text: unknown): unknown {
  return typeof text === "string" && /^[=+\-@\t\r\uff0b\uff0d\uff1d\uff20]/.test(text)
    ? `'${text}`
    : text;
}

const namedGroups = [
  "model",
  "adapter",
  "project",
  "team",
  "cost_centre",
  "key",
  "owner",
  "task",
  "end_user",
  "route",
  "upstream",
  "outcome",
  "day",
  "hour",
] as const;

const isTag = (group: string): boolean => /^tag:[^\s,]{1,64}$/.test(group);

const reportQuery = z.object({
  /** Inclusive; 30 days before `to` when absent. */
  from: single(moment.optional()),
  /** Exclusive; now when absent. */
  to: single(moment.optional()),
  group_by: list(
    z
      .string()
      .refine((group) => (namedGroups as readonly string[]).includes(group) || isTag(group), {
        error: `expected ${namedGroups.join(", ")} or tag:NAME`,
      }),
  ),
  format: single(z.enum(["json", "csv"]).default("json")),
});

const rowsMax = 10_000;
const defaultPeriodMs = 30 * 86_400_000;
