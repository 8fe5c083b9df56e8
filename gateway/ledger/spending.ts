/** What counters have spent, for budgets to start from: by the ledger, or by the spool alone. */
import type postgres from "postgres";
import { z } from "zod";
import { parseUsd } from "../../sdk/protocol/money.ts";
import type { Counter, Spending } from "../budgets/types.ts";
import { storable, unansweredAccount } from "./record.ts";
import type { Spool } from "./spool.ts";

/**
 * Exact for periods of any time zone. What counts a scope as a whole is read from the totals of UTC days and, of the
 * day on which the period begins, from its requests; what counts a user's or a model's part, from the requests. The
 * organisation's counters have what calls without an answer cost besides.
 */
export async function spendingByLedger(
  sql: postgres.Sql,
  counters: readonly Counter[],
): Promise<Spending[]> {
  if (counters.length === 0) return [];
  // Names as the ledger has them.
  const asked = counters.map(({ scope, startMs, endMs, user, model, budget }, index) => ({
    index,
    project: scope.projectId ?? null,
    key: scope.type === "key" ? scope.id : null,
    start: new Date(startMs).toISOString(),
    end: endMs === undefined ? null : new Date(endMs).toISOString(),
    // Days that begin within the period; the last of them may go on after its end, but has not been spent yet.
    first_day: new Date(Math.ceil(startMs / dayMs) * dayMs).toISOString(),
    is_part: user !== undefined || model !== undefined || budget.models !== undefined,
    user: user ?? null,
    models: model === undefined ? (budget.models ?? null) : null,
    model: model ?? null,
  }));
  const rows = await sql<{ index: number; spent: string }[]>`
    select asked.index, (
      case when is_part then (
        select coalesce(sum(cost), 0) from billing.requests request
        where at >= start and (asked."end" is null or at < asked."end")
          and (asked.project is null or request.project_id = asked.project)
          and (asked.key is null or request.key_id = asked.key)
          and (asked."user" is null or request.end_user = asked."user")
          and (asked.model is null
            or coalesce(request.model || ':' || request.adapter, request.model) = asked.model)
          and (asked.models is null or asked.models ? request.model
            or asked.models ? (request.model || ':' || request.adapter))
      ) else (
        select coalesce(sum(cost), 0) from billing.daily_spend spend
        where day >= (first_day at time zone 'utc')::date
          and (asked.project is null or spend.project_id = asked.project)
          and (asked.key is null or spend.key_id = asked.key)
      ) + (
        select coalesce(sum(cost), 0) from billing.requests request
        where at >= start and at < first_day
          and (asked.project is null or request.project_id = asked.project)
          and (asked.key is null or request.key_id = asked.key)
      ) end
      + case when asked.project is not null then 0 else (
        select coalesce(sum(entry.amount), 0) from billing.entries entry
        where entry.account = ${unansweredAccount}
          and entry.at >= start and (asked."end" is null or entry.at < asked."end")
          and (asked.model is null or entry.model = asked.model)
          and (asked.models is null or asked.models ? entry.model
            or asked.models ? split_part(entry.model, ':', 1))
          and (asked."user" is null or exists (
            select from billing.requests request
            where request.request_id = entry.request_id and request.end_user = asked."user"))
      ) end
    )::text as spent
    from jsonb_to_recordset(${storable(JSON.stringify(asked))}::text::jsonb) as asked (
      index int, project text, key text, start timestamptz, "end" timestamptz, first_day timestamptz,
      is_part boolean, "user" text, models jsonb, model text)`;
  const spent = new Map(rows.map((row) => [row.index, parseUsd(row.spent)]));
  return counters.map((counter, index) => ({ counter, spent: spent.get(index) ?? 0n }));
}

/** For a start without a database: what is on disk is the least that was spent. */
export async function spendingBySpool(
  spool: Pick<Spool, "uncommitted">,
  counters: readonly Counter[],
): Promise<Spending[]> {
  const sums = counters.map((counter) => ({ counter, spent: 0n }));
  if (sums.length === 0) return sums;
  for await (const line of spool.uncommitted()) {
    const record = settled.parse(JSON.parse(line));
    const cost = parseUsd(record.cost ?? "0");
    const overheads = record.entries.filter(({ account }) => account === unansweredAccount);
    for (const sum of sums) {
      const { counter } = sum;
      if (counts(counter, record)) sum.spent += cost;
      if (counter.scope.type !== "organization") continue;
      for (const { amount, model } of overheads) {
        const [base, adapter] = splitName(model);
        if (counts(counter, { ...record, model: base, adapter })) sum.spent += parseUsd(amount);
      }
    }
  }
  return sums;
}

function splitName(model: string | undefined): [base: string | undefined, adapter?: string] {
  const at = model?.indexOf(":") ?? -1;
  return model === undefined || at === -1 ? [model] : [model.slice(0, at), model.slice(at + 1)];
}

type Settled = z.infer<typeof settled>;

function counts({ scope, startMs, endMs, user, model, budget }: Counter, record: Settled): boolean {
  const atMs = Date.parse(record.at);
  const name = record.adapter === undefined ? record.model : `${record.model}:${record.adapter}`;
  return (
    (scope.projectId === undefined || record.project_id === scope.projectId) &&
    (scope.type !== "key" || record.key_id === scope.id) &&
    atMs >= startMs &&
    (endMs === undefined || atMs < endMs) &&
    (user === undefined || record.end_user === user) &&
    (model === undefined || name === model) &&
    (budget.models === undefined ||
      [record.model, name].some((it) => it !== undefined && budget.models?.includes(it)))
  );
}

const dayMs = 86_400_000;
const settled = z.object({
  project_id: z.string(),
  key_id: z.string(),
  end_user: z.string().optional(),
  model: z.string().optional(),
  adapter: z.string().optional(),
  at: z.string(),
  cost: z.string().optional(),
  entries: z
    .array(z.object({ account: z.string(), amount: z.string(), model: z.string().optional() }))
    .default([]),
});
