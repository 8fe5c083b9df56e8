/** Looks at the ledger in Postgres itself, past the product's own reports. */
import postgres from "postgres";

export type LedgerRow = { id: string; outcome: string; cost: bigint };

/**
 * All settled requests of a project, after the ledger was found to agree with itself: every request's
 * entries add up to zero, and its days' totals are the sum of its requests.
 * @throws Error when it does not
 */
export async function readLedger(url: string, projectId: string): Promise<LedgerRow[]> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    const rows = await sql<{ id: string; outcome: string; pico: string }[]>`
      select request_id as id, outcome, trunc(coalesce(cost, 0) * 1e12)::text as pico
      from billing.requests where project_id = ${projectId} order by request_id`;
    const unbalanced = await sql`
      select request_id from billing.entries where project_id = ${projectId}
      group by request_id having sum(amount) <> 0`;
    if (unbalanced.length > 0) throw new Error(`entries of ${unbalanced.length} requests are off`);
    const [days] = await sql<{ requests: number; pico: string }[]>`
      select coalesce(sum(requests), 0)::int as requests,
        trunc(coalesce(sum(cost), 0) * 1e12)::text as pico
      from billing.daily_spend where project_id = ${projectId}`;
    const ledger = rows.map(({ pico, ...row }) => ({ ...row, cost: BigInt(pico) }));
    const cost = ledger.reduce((total, row) => total + row.cost, 0n);
    if (days?.requests !== rows.length || BigInt(days.pico) !== cost) {
      throw new Error(
        `the days have ${JSON.stringify(days)}, the requests ${rows.length}, ${cost}`,
      );
    }
    return ledger;
  } finally {
    await sql.end({ timeout: 1 });
  }
}
