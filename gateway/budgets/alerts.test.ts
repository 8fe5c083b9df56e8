import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { migrateLedger } from "../ledger/database.ts";
import { testTimeMs } from "../metering/testing.ts";
import { type BudgetAlert, createBudgetAlerts, listAlerts } from "./alerts.ts";
import { counterOf } from "./counters.ts";
import type { BudgetScope, Counter } from "./types.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
  await migrateLedger(database.sql);
});
beforeEach(async () => {
  await database.sql`truncate billing.budget_alerts`;
});
afterAll(() => database.close());

const scope: BudgetScope = { type: "project", id: "p", projectId: "p", budgets: [] };

test("a share that nobody saw being passed is told by whoever sees it passed, and once", async () => {
  const counter = counterAt({ limitUsd: "100", alertAt: [0.5, 0.8, 1] });
  const [one, other] = [open(), open()];
  // Whoever took it from 40 to 90 has died, or never heard of it.
  one.alerts.rose([{ counter, before: 90n * usd, after: 90n * usd }]);
  other.alerts.rose([{ counter, before: 90n * usd, after: 91n * usd }]);
  await Promise.all([one.alerts.flush(), other.alerts.flush()]);
  const shares = [...one.told, ...other.told].map(({ share }) => share);
  expect(shares.sort()).toEqual([0.5, 0.8]);

  const next = open();
  for (const { alerts } of [one, next]) {
    alerts.rose([{ counter, before: 91n * usd, after: 92n * usd }]);
    await alerts.flush();
  }
  expect([...next.told, ...one.told, ...other.told]).toHaveLength(2);
});

test("a month's alert is told once, whichever budget counts the month", async () => {
  const alert = { id: "alert_1", thresholdUsd: "10", recipients: ["ops@example.com"] };
  const { alerts, told } = open();
  for (const hard of [false, true]) {
    const counter = { ...counterAt({ hard }), spendAlerts: [alert as never] };
    alerts.rose([{ counter, before: 0n, after: 20n * usd }]);
    await alerts.flush();
  }
  expect(told).toMatchObject([{ spend_alert: { id: "alert_1" }, limit_usd: "10" }]);
});

test("what a budget without end has told is not told again when old alerts are forgotten", async () => {
  const clock = { ms: testTimeMs };
  const total = counterAt({ period: "total", alertAt: [0.5] });
  const month = counterAt({ alertAt: [0.5] });
  for (let turn = 0; turn < 2; turn++) {
    const { alerts, told } = open(clock);
    const rising = turn === 0 ? [total, month] : [total];
    alerts.rose(rising.map((counter) => ({ counter, before: 0n, after: 60n * usd })));
    await alerts.flush();
    expect(told).toHaveLength(turn === 0 ? 2 : 0);
    clock.ms += 500 * 86_400_000;
    const later = counterAt({ alertAt: [0.9] }, clock.ms);
    alerts.rose([{ counter: later, before: 0n, after: 95n * usd }]);
    await alerts.flush();
    const kept = await listAlerts(database.sql, { projectId: "p", before: undefined, limit: 9 });
    expect(kept.map(({ budget }) => (budget as { period: string }).period)).toContain("total");
  }
});

test("while the database is away it is asked once in a while, however often something rises", async () => {
  let asked = 0;
  const away = (text: readonly string[]) => {
    if (!text.join("").includes("insert")) return text;
    asked++;
    return Promise.reject(new Error("away"));
  };
  const alerts = createBudgetAlerts({
    sql: away as never,
    now: () => testTimeMs,
    waitingMax: 10,
    retryMs: 60_000,
    toPostMax: 0,
    onAlert: () => {},
    onError: () => {},
  });
  const counter = counterAt({ alertAt: [0.5] });
  for (let turn = 0; turn < 5; turn++) {
    alerts.rose([{ counter, before: 60n * usd, after: 61n * usd }]);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const before = asked;
  await alerts.close();
  expect(before).toBe(1);
});

function open(clock = { ms: testTimeMs }) {
  const told: BudgetAlert[] = [];
  const alerts = createBudgetAlerts({
    sql: database.sql,
    now: () => clock.ms,
    waitingMax: 100,
    retryMs: 60_000,
    toPostMax: 0,
    onAlert: (alert) => told.push(alert),
    onError(error) {
      throw error;
    },
  });
  return { alerts, told };
}

function counterAt(budget: Partial<Counter["budget"]>, atMs = testTimeMs): Counter {
  return counterOf(
    scope,
    { limitUsd: "100", period: "month", ...budget },
    { user: undefined, model: undefined, atMs },
  );
}

const usd = 10n ** 12n;
