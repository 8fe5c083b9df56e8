/** `GET /api/requests` and `/api/requests/:id`: settled requests, newest first, and one with its decision. */
import type postgres from "postgres";
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { requestId, sortableText } from "../../sdk/protocol/ids.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { moment, readQuery, refuseUnknown, single, wholeNumber } from "./query.ts";
import {
  conditionsOf,
  requestColumns,
  requestFilters,
  toRequest,
  type Viewer,
} from "./request-row.ts";
import { all, at, count } from "./sql.ts";

export type ListOptions = Viewer & {
  /** How long the database may look. */
  timeoutMs: number;
};

/** @throws HubError `deadline_exceeded` for what would take the database too long */
export async function listRequests(
  sql: postgres.Sql,
  url: string,
  { timeoutMs, ...viewer }: ListOptions,
) {
  const raw = readQuery(url);
  refuseUnknown(raw, Object.keys(listQuery.shape));
  const { limit, after, from, to, ...filters } = parseOrThrow(listQuery, raw);
  const conditions = [
    ...conditionsOf(sql, filters, viewer),
    ...(after === undefined ? [] : [sql`request_id < ${after}`]),
    // Ids begin with the moment when a request came, which is before `at`: so the index of ids finds times too.
    ...(from === undefined
      ? []
      : [sql`at >= ${at(sql, from)}`, sql`request_id >= ${idAt(from - arrivalMsMax)}`]),
    ...(to === undefined ? [] : [sql`at < ${at(sql, to)}`, sql`request_id < ${idAt(to)}`]),
  ];
  const rows = await withinTime(
    sql,
    timeoutMs,
    (tx) => tx`
      select ${requestColumns(sql)} from billing.requests where ${all(sql, conditions)}
      order by request_id desc limit ${limit + 1}`,
  );
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
  const conditions = all(sql, [sql`request_id = ${id}`, ...conditionsOf(sql, {}, viewer)]);
  const [row] = requestId.safeParse(id).success
    ? await sql`select ${requestColumns(sql)}, decision from billing.requests where ${conditions}`
    : [];
  if (row === undefined) throw noRequest(id);
  const entries = await sql`
    select account, model, amount::text as amount, meter, quantity, price_id
    from billing.entries where request_id = ${id} order by id`;
  const [content] = await sql`
    select truncated, expires_at from gateway.request_contents where request_id = ${id}`;
  return {
    ...toRequest(row),
    /** What was said is kept, and at `/content` for administrators. */
    content: content
      ? {
          expires_at: new Date(content.expires_at).toISOString(),
          truncated: content.truncated as boolean,
        }
      : null,
    decision: row.decision ?? null,
    entries: entries.map((entry) => ({
      account: entry.account as string,
      model: entry.model as string,
      /** Debits are positive, credits negative; together they are zero. */
      amount_usd: formatUsd(parseUsd(entry.amount)),
      meter: entry.meter as string | null,
      quantity: count(entry.quantity),
      price_id: entry.price_id as string | null,
    })),
  };
}

function noRequest(id: string): HubError {
  return new HubError(
    "not_found",
    `No request '${id.slice(0, 64)}' is in the ledger. A request appears there within a second of its end.`,
  );
}

async function withinTime(
  sql: postgres.Sql,
  timeoutMs: number,
  ask: (tx: postgres.TransactionSql) => postgres.PendingQuery<postgres.Row[]>,
): Promise<postgres.Row[]> {
  try {
    return await sql.begin("read only", async (tx) => {
      await tx`select set_config('statement_timeout', ${String(timeoutMs)}, true)`;
      return await ask(tx);
    });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "57014")) throw error;
    throw new HubError(
      "deadline_exceeded",
      `Finding these requests takes longer than ${timeoutMs} ms. Narrow the time with 'from' and 'to', or name a project or a key.`,
      { cause: error },
    );
  }
}

/** The lowest id of that millisecond. */
function idAt(ms: number): string {
  return `req_${sortableText(Math.max(0, Math.floor(ms)), (length) => new Uint8Array(length))}`;
}

/** From a request's arrival until it is reserved: its body comes between, and the wait for a place. */
const arrivalMsMax = 60 * 60_000;

const listQuery = z.object({
  limit: single(wholeNumber.pipe(z.int().min(1).max(100)).default(20)),
  after: single(requestId.optional()),
  from: single(moment.optional()),
  to: single(moment.optional()),
  ...requestFilters.shape,
});
