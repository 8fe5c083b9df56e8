/** The ledger's database: migrated once by whichever gateway comes first, written in whole batches. */
import { fileURLToPath } from "node:url";
import { getTableConfig } from "drizzle-orm/pg-core";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import type postgres from "postgres";
import { requests } from "./schema.ts";

/** Brings the schema `billing` up to date. Gateways that start together wait for one another. */
export async function migrateLedger(sql: postgres.Sql): Promise<void> {
  await sql.begin(async (transaction) => {
    await transaction`select pg_advisory_xact_lock(hashtext('switchyard.billing.migrations'))`;
    // Drizzle asks its client for options and a transaction; within ours that is a savepoint.
    const client = Object.assign(transaction, {
      options: sql.options,
      begin: transaction.savepoint,
    }) as unknown as postgres.Sql;
    await migrate(drizzle(client), {
      migrationsFolder: fileURLToPath(new URL("../migrations", import.meta.url)),
      migrationsSchema: "billing",
      migrationsTable: "migrations",
    });
  });
}

/**
 * Adds the records that the ledger does not have yet, with their entries and the day's totals, in one
 * statement: all of it or nothing. A record that is there already changes nothing.
 * @param lines records as `serializeRecord` writes them
 * @returns how many were new
 */
export async function insertRecords(sql: postgres.Sql, lines: readonly string[]): Promise<number> {
  const rows = await sql.unsafe(insertion, [`[${lines.join(",")}]`]);
  return Number(rows[0]?.inserted ?? 0);
}

/** What the database itself fills in is not in a record. */
const requestColumns = getTableConfig(requests).columns.filter(
  ({ name }) => name !== requests.ingestedBy.name,
);
const columns = requestColumns.map((it) => `${it.name} ${it.getSQLType()}`).join(", ");
const columnNames = requestColumns.map((it) => it.name).join(", ");

/** `distinct on`: a record that a failing disk took twice is in the batch twice. */
const insertion = `
  with records as (
    select distinct on (request_id) *
    from jsonb_to_recordset($1::text::jsonb) as record (${columns}, entries jsonb)
    order by request_id
  ), inserted as (
    insert into billing.requests (${columnNames})
    select ${columnNames} from records
    on conflict (request_id) do nothing
    returning request_id, at, project_id, key_id, owner_id, model, adapter, cost, pricing
  ), lines as (
    insert into billing.entries
      (request_id, at, project_id, key_id, owner_id, model, account, amount, meter, quantity, price_id)
    select request_id, at, project_id, key_id, owner_id,
      coalesce(entry.model, case when adapter is null then inserted.model else inserted.model || ':' || adapter end),
      entry.account, entry.amount, entry.meter, entry.quantity, entry.price_id
    from inserted join (select request_id, entries from records) as record using (request_id)
    cross join lateral jsonb_to_recordset(record.entries)
      as entry (account text, amount numeric, meter text, quantity bigint, price_id text, model text)
  ), days as (
    insert into billing.daily_spend as spend (day, project_id, key_id, cost, requests, unpriced)
    select (at at time zone 'utc')::date, project_id, key_id,
      coalesce(sum(cost), 0), count(*), count(*) filter (where pricing = 'unpriced')
    from inserted group by 1, 2, 3 order by 2, 3, 1
    on conflict (project_id, key_id, day) do update set
      cost = spend.cost + excluded.cost,
      requests = spend.requests + excluded.requests,
      unpriced = spend.unpriced + excluded.unpriced
  )
  select count(*)::int as inserted from inserted`;
