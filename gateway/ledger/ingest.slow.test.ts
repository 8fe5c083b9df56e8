import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withDatabase } from "../../test/support/database.ts";
import { meteringLimits } from "../metering/config.ts";
import { testPrincipal, testSettlement, testTimeMs, withFolder } from "../metering/testing.ts";
import { insertRecords, migrateLedger } from "./database.ts";
import { Ingester } from "./ingest.ts";
import { serializeRecord, toRecord } from "./record.ts";
import { Spool } from "./spool.ts";

const limits = meteringLimits.parse({ ingestDelayMs: 1, ingestRetryMs: 1, ingestRetryMsMax: 2 });

test("a record that the database refuses is put aside, and the rest of its batch gets in", () =>
  withFolder((folder) =>
    withDatabase(async ({ sql }) => {
      await migrateLedger(sql);
      const spool = await Spool.open({ folder, limits });
      const rejectedFile = join(folder, "rejected.jsonl");
      const errors: unknown[] = [];
      const ingester = new Ingester({
        spool,
        limits,
        insert: (lines) => insertRecords(sql, lines),
        rejectedFile,
        onError: (error) => errors.push(error),
      });
      const bad = '{"request_id":"nothing else"}';
      for (const text of [line("a"), bad, line("b")]) await spool.append(text);
      await ingester.flush();
      expect(await sql`select request_id from billing.requests order by 1`).toEqual([
        { request_id: "a" },
        { request_id: "b" },
      ]);
      expect(await readFile(rejectedFile, "utf8")).toBe(`${bad}\n`);
      expect(ingester).toMatchObject({ ingestedRecords: 2, rejectedRecords: 1 });
      expect(errors).toHaveLength(1);
      expect(spool.backlogBytes).toBe(0);
      await spool.close();
    }),
  ));

test("while the database is down records wait, and get in by themselves when it is back", () =>
  withFolder(async (folder) => {
    const spool = await Spool.open({ folder, limits });
    const inserted: string[] = [];
    let failures = 0;
    const allIn = new Promise<void>((resolve) => {
      const ingester = new Ingester({
        spool,
        limits,
        async insert(lines) {
          if (failures < 5) throw Object.assign(new Error("down"), { code: "ECONNREFUSED" });
          inserted.push(...lines);
          if (inserted.length === 3) resolve();
          return lines.length;
        },
        rejectedFile: join(folder, "rejected.jsonl"),
        onError: () => {
          failures++;
        },
      });
      ingester.start();
    });
    for (const text of ["1", "2", "3"]) await spool.append(text);
    await allIn;
    expect(inserted).toEqual(["1", "2", "3"]);
    expect(failures).toBe(5);
    await spool.close();
  }));

test("records that come again, in one batch or in two, count once", () =>
  withDatabase(async ({ sql }) => {
    await Promise.all([migrateLedger(sql), migrateLedger(sql)]);
    expect(await insertRecords(sql, [line("a"), line("a"), line("b")])).toBe(2);
    expect(await insertRecords(sql, [line("b"), line("c")])).toBe(1);
    expect(await sql`select requests::int, cost::text from billing.daily_spend`).toEqual([
      { requests: 3, cost: "3.000000000000" },
    ]);
    expect(
      await sql`select count(*)::int as n, sum(amount)::text as sum from billing.entries`,
    ).toEqual([{ n: 6, sum: "0.000000000000" }]);
  }));

const principal = testPrincipal();

/** A record that cost one dollar. */
function line(requestId: string): string {
  const bill = {
    lines: [{ meter: "input" as const, quantity: 1, priceId: "price_1", amount: 10n ** 12n }],
    cost: 10n ** 12n,
  };
  const settlement = testSettlement();
  return serializeRecord(
    toRecord({ requestId, principal, atMs: testTimeMs, settlement, bill, baselineCost: undefined }),
    limits.recordBytesMax,
  );
}
