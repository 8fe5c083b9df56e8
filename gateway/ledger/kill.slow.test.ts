import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type postgres from "postgres";
import { expect, test } from "vitest";
import { withDatabase } from "../../test/support/database.ts";
import { meteringLimits } from "../metering/config.ts";
import { openMetering } from "../metering/metering.ts";
import { testPrices, withFolder } from "../metering/testing.ts";

test("what a killed process acknowledged is in the ledger exactly once", () =>
  withFolder((dataDir) =>
    withDatabase(async ({ sql }) => {
      await openAndClose(dataDir, sql);
      const acknowledged: string[] = [];
      for (const records of [1, 400]) {
        acknowledged.push(...(await settleUntilKilled(dataDir, sql, records)));
      }
      await openAndClose(dataDir, sql);

      const rows = await sql`select request_id from billing.requests`;
      const ids = new Set(rows.map((row) => row.request_id));
      expect(ids.size).toBe(rows.length);
      expect(acknowledged.filter((id) => !ids.has(id))).toEqual([]);
      expect(acknowledged.length).toBeGreaterThan(400);
      const [totals] = await sql`select
        (select count(*)::int from billing.requests) as requests,
        (select sum(requests)::int from billing.daily_spend) as counted,
        (select sum(cost)::text from billing.requests) as cost,
        (select sum(cost)::text from billing.daily_spend) as spent,
        (select sum(amount)::text from billing.entries where meter is not null) as entered,
        (select count(*)::int from billing.entries) as entries`;
      expect(totals?.counted).toBe(totals?.requests);
      expect(totals?.spent).toBe(totals?.cost);
      expect(totals?.entered).toBe(totals?.cost);
      expect(totals?.entries).toBe(3 * rows.length);
    }),
  ));

/** Ids that the process told before it was killed with SIGKILL, at `records` or a little later. */
async function settleUntilKilled(
  dataDir: string,
  sql: postgres.Sql,
  records: number,
): Promise<string[]> {
  const { host, port, path, database, user } = sql.options;
  const connection = {
    host: path ? path.replace(/\/\.s\.PGSQL.*$/, "") : host[0],
    port: port[0],
    database,
    user,
  };
  const child = spawn(
    process.execPath,
    ["--import", "tsx", worker, dataDir, JSON.stringify(connection)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
    if (output.split("\n").length > records) child.kill("SIGKILL");
  });
  const [, signal] = await once(child, "close");
  expect(signal).toBe("SIGKILL");
  // The last line may be cut off: it was not told.
  return output.split("\n").slice(0, -1);
}

async function openAndClose(dataDir: string, sql: postgres.Sql): Promise<void> {
  const metering = await openMetering({
    dataDir,
    sql,
    prices: testPrices({}),
    now: Date.now,
    limits: meteringLimits.parse({}),
    onError: (error) => {
      throw error;
    },
  });
  await metering.close();
}

const worker = fileURLToPath(new URL("kill-test/worker.ts", import.meta.url));
