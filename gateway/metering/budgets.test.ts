/** Budgets as requests meet them: through the accounts, over a real ledger. */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { type BudgetAlert, listAlerts } from "../budgets/alerts.ts";
import { meteringLimits } from "./config.ts";
import { type Metering, type MeteringOptions, openMetering } from "./metering.ts";
import { testPrices, testPrincipal, testReserve, testSettlement, withFolder } from "./testing.ts";
import type { Principal } from "./types.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
});
beforeEach(async () => {
  await database.sql`drop schema if exists billing, gateway cascade`;
});
afterAll(() => database.close());

// A request of the tests reserves $0.0003 and uses $0.00018.
const prices = testPrices({
  "gpt/input": "0.000001",
  "gpt/output": "0.000004",
  "small/input": "0.000001",
  "small/output": "0.000004",
});

test("of a thousand requests at once on a budget with room for a hundred a hundred pass, and nothing is overspent", () =>
  withMetering({}, async ({ accounts, flush, sql }) => {
    const principal = testPrincipal({
      project: { budgets: [{ limitUsd: "0.03", period: "month", timeZone: "Europe/Berlin" }] },
    });
    const full = testSettlement({ usage: { input: 100, output: 50 } });
    const asked = await Promise.allSettled(
      Array.from({ length: 1_000 }, async () => {
        const reservation = await accounts.reserve(testReserve(principal));
        return reservation.settle(full);
      }),
    );
    const refusals = asked.flatMap((it) => (it.status === "rejected" ? [it.reason] : []));
    expect(refusals).toHaveLength(900);
    for (const refusal of refusals) {
      expect(refusal).toBeInstanceOf(HubError);
      expect(refusal).toMatchObject({
        code: "insufficient_quota",
        details: { scope: "project", limitUsd: "0.03", resetAt: "2026-11-30T23:00:00.000Z" },
      });
      const { spentUsd, reservedUsd } = refusal.details;
      expect(parseUsd(spentUsd) + parseUsd(reservedUsd)).toBe(parseUsd("0.03"));
    }
    await flush();
    expect(await spentBy(sql, principal)).toBe("0.03");
  }));

test("what the ledger says was spent counts in the period of its time zone, user and model, to the millisecond", async () => {
  const clock = { ms: Date.parse("2026-10-25T22:59:59.999Z") };
  const spend = async (principal: Principal, endUser?: string, model = "gpt") =>
    withMetering({ now: () => clock.ms }, async ({ accounts }) => {
      const reservation = await accounts.reserve(
        testReserve(principal, { endUser, models: [{ model }] }),
      );
      await reservation.settle(
        testSettlement({ answered: { model, upstream: "openai" }, endUser }),
      );
    });
  const ledger = testPrincipal();
  // The last millisecond of a day of twenty-five hours, the first of the next, and midnight in UTC.
  await spend(ledger, "ada");
  clock.ms += 1;
  await spend(ledger, "ada", "small");
  clock.ms = Date.parse("2026-10-26T00:00:00Z");
  await spend(ledger, "bob");
  clock.ms += 3_600_000;

  const spentOf = async (budget: Partial<Budget>, endUser?: string, model = "gpt") => {
    const limited = { limitUsd: "0.0003", period: "day", ...budget } as const;
    const principal = { ...ledger, project: { ...ledger.project, budgets: [limited] } };
    return withMetering({ now: () => clock.ms }, async ({ accounts }) => {
      const asked = testReserve(principal, {
        endUser,
        models: [{ model }],
        outputTokensMax: 1_000,
      });
      const refusal = await accounts.reserve(asked).catch((error: unknown) => error);
      return (refusal as HubError).details?.spentUsd;
    });
  };
  const timeZone = "Europe/Berlin";
  expect(await spentOf({ timeZone })).toBe("0.00036");
  expect(await spentOf({})).toBe("0.00018");
  expect(await spentOf({ timeZone, period: "month" })).toBe("0.00054");
  expect(await spentOf({ timeZone, each: ["user"] }, "ada")).toBe("0.00018");
  expect(await spentOf({ timeZone, each: ["user"], period: "week" }, "ada")).toBe("0.00018");
  expect(await spentOf({ timeZone, each: ["user"], period: "total" }, "ada")).toBe("0.00036");
  expect(await spentOf({ timeZone, each: ["model"] }, undefined, "small")).toBe("0.00018");
  expect(await spentOf({ period: "total", models: ["gpt"] })).toBe("0.00036");
});

test("with the database away a budget starts from what waits in the spool, of each user alone", () =>
  withFolder(async (dataDir) => {
    const down = postgres({ host: "127.0.0.1", port: 9, max: 1, connect_timeout: 1 });
    const principal = testPrincipal({
      key: { budgets: [{ limitUsd: "0.0004", period: "week", each: ["user"] }] },
    });
    const ask = async (metering: Metering, endUser: string) =>
      metering.accounts.reserve(testReserve(principal, { endUser }));
    const options = { dataDir, sql: down, onError: () => {} };
    await withMetering(options, async (metering) => {
      const reservation = await ask(metering, "ada");
      await reservation.settle(testSettlement({ endUser: "ada" }));
    });
    await withMetering(options, async (metering) => {
      await expect(ask(metering, "ada")).rejects.toMatchObject({
        details: { user: "ada", spentUsd: "0.00018" },
      });
      await ask(metering, "bob");
    });
  }));

test("a budget of the organisation bounds all its projects together", () => {
  const budgets: Budget[] = [{ limitUsd: "0.0005", period: "day" }];
  return withMetering({ organization: () => ({ budgets }) }, async ({ accounts }) => {
    await accounts.reserve(testReserve(testPrincipal()));
    await expect(accounts.reserve(testReserve(testPrincipal()))).rejects.toMatchObject({
      details: { scope: "organization", reservedUsd: "0.0003" },
    });
  });
});

test("each share of a budget is told once a period, by whichever process comes first, a restart included", async () => {
  const told: string[] = [];
  const onAlert = ({ scope, share, spent_usd, limit_usd, reset_at }: BudgetAlert) =>
    told.push([scope, share, spent_usd, limit_usd, reset_at].join(" "));
  const clock = { ms: Date.parse("2026-11-21T12:00:00Z") };
  const principal = testPrincipal({
    project: {
      budgets: [{ limitUsd: "0.00036", period: "day", hard: false, alertAt: [0.5, 0.8, 1] }],
    },
  });
  const spend = async ({ accounts }: Metering, times: number) => {
    for (let turn = 0; turn < times; turn++) {
      await (await accounts.reserve(testReserve(principal))).settle(testSettlement());
    }
  };
  const options = { onAlert, now: () => clock.ms };
  await withMetering(options, async (metering) => {
    await spend(metering, 1);
    await metering.flush();
    expect(told).toEqual(["project 0.5 0.00018 0.00036 2026-11-22T00:00:00.000Z"]);
    await spend(metering, 2);
  });
  expect(told.slice(1)).toEqual([
    "project 0.8 0.00036 0.00036 2026-11-22T00:00:00.000Z",
    "project 1 0.00036 0.00036 2026-11-22T00:00:00.000Z",
  ]);
  await withMetering(options, (metering) => spend(metering, 1));
  expect(told).toHaveLength(3);
  clock.ms += 86_400_000;
  await withMetering(options, (metering) => spend(metering, 1));
  expect(told.slice(3)).toEqual(["project 0.5 0.00018 0.00036 2026-11-23T00:00:00.000Z"]);

  const { id } = principal.project;
  const found = await listAlerts(database.sql, { projectId: id, before: undefined, limit: 2 });
  expect(found).toMatchObject([
    { object: "budget_alert", share: 0.5, scope_id: id, budget: { hard: false }, end_user: null },
    { share: 1, at: "2026-11-21T12:00:00.000Z", reset_at: "2026-11-22T00:00:00.000Z" },
  ]);
  const other = { projectId: "proj_other", before: undefined, limit: 10 };
  expect(await listAlerts(database.sql, other)).toEqual([]);
});

async function spentBy(sql: postgres.Sql, { project }: Principal): Promise<string> {
  const [row] = await sql`
    select sum(cost)::text as spent from billing.requests where project_id = ${project.id}`;
  return formatUsd(parseUsd(row?.spent));
}

async function withMetering<T>(
  more: Partial<MeteringOptions>,
  use: (metering: Metering & { sql: postgres.Sql }) => Promise<T>,
): Promise<T> {
  return withFolder(async (dataDir) => {
    const { sql } = database;
    const metering = await openMetering({
      dataDir,
      sql,
      prices,
      now: () => Date.parse("2026-11-21T12:00:00Z"),
      limits: meteringLimits.parse({}),
      onError: (error) => {
        throw error;
      },
      ...more,
    });
    try {
      return await use({ ...metering, sql });
    } finally {
      await metering.close();
    }
  });
}
