/** What projects and keys have spent, for budgets to start from: by the ledger, or by the spool alone. */
import type postgres from "postgres";
import { z } from "zod";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { budgetPeriods, periodStart } from "../budgets/periods.ts";
import type { Spending } from "../budgets/types.ts";
import type { Spool } from "./spool.ts";

/** Reads the daily totals, whose number is that of keys and days, not of requests. */
export async function spendingByLedger(sql: postgres.Sql, atMs: number): Promise<Spending[]> {
  const day = new Date(periodStart("day", atMs)).toISOString();
  const month = new Date(periodStart("month", atMs)).toISOString();
  const rows = await sql<
    { project_id: string; key_id: string; day: string; month: string; total: string }[]
  >`
    select project_id, key_id, sum(cost)::text as total,
      coalesce(sum(cost) filter (where day = ${day}::text::date), 0)::text as day,
      coalesce(sum(cost) filter (where day >= ${month}::text::date), 0)::text as month
    from billing.daily_spend where day <= ${day}::text::date group by project_id, key_id`;
  const totals = new Totals(atMs);
  for (const row of rows) {
    totals.add(row.project_id, row.key_id, {
      day: parseUsd(row.day),
      month: parseUsd(row.month),
      total: parseUsd(row.total),
    });
  }
  return totals.spending();
}

/** For a start without a database: what is on disk is the least that was spent. */
export async function spendingBySpool(
  spool: Pick<Spool, "uncommitted">,
  atMs: number,
): Promise<Spending[]> {
  const totals = new Totals(atMs);
  for await (const line of spool.uncommitted()) {
    const record = spent.parse(JSON.parse(line));
    const recordMs = Date.parse(record.at);
    const cost = parseUsd(record.cost ?? "0");
    const within = (period: (typeof budgetPeriods)[number]) =>
      periodStart(period, recordMs) === periodStart(period, atMs) ? cost : 0n;
    totals.add(record.project_id, record.key_id, {
      day: within("day"),
      month: within("month"),
      total: within("total"),
    });
  }
  return totals.spending();
}

/** Sums for each key and, over its keys, each project. */
class Totals {
  readonly #atMs: number;
  readonly #scopes = new Map<string, Spending>();

  constructor(atMs: number) {
    this.#atMs = atMs;
  }

  add(projectId: string, keyId: string, spent: Spending["spent"]): void {
    this.#addTo({ projectId, type: "key", id: keyId }, spent);
    this.#addTo({ projectId, type: "project", id: projectId }, spent);
  }

  spending(): Spending[] {
    return [...this.#scopes.values()];
  }

  #addTo(scope: Pick<Spending, "projectId" | "type" | "id">, spent: Spending["spent"]): void {
    const name = `${scope.type}:${scope.id}`;
    const before = this.#scopes.get(name)?.spent;
    const sum = { ...spent };
    for (const period of budgetPeriods) sum[period] += before?.[period] ?? 0n;
    this.#scopes.set(name, { ...scope, atMs: this.#atMs, spent: sum });
  }
}

const spent = z.object({
  project_id: z.string(),
  key_id: z.string(),
  at: z.string(),
  cost: z.string().optional(),
});
