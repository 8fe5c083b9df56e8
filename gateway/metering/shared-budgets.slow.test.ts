/** Three processes that share budgets by Redis, each on a cable of its own that is held shut, pulled out and put back. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { type Cable, layCable } from "../../test/support/cable.ts";
import { createPostgresDatabase, type PostgresDatabase } from "../../test/support/database.ts";
import { findStores } from "../../test/support/optional-parts.ts";
import type { BudgetAlert } from "../budgets/alerts.ts";
import { counterOf } from "../budgets/counters.ts";
import { meteringLimits } from "./config.ts";
import { type Metering, openMetering } from "./metering.ts";
import { testPrices, testPrincipal, testReserve, testSettlement, withFolder } from "./testing.ts";
import type { Principal } from "./types.ts";

const stores = await findStores();
const why = typeof stores === "string" ? ` (skipped: ${stores})` : "";
/** A request of the tests reserves $0.0003 and uses all of it. */
const cost = parseUsd("0.0003");
const full = testSettlement({ usage: { input: 100, output: 50 } });

describe.skipIf(typeof stores === "string")(`three processes on Postgres and Redis${why}`, () => {
  let database: PostgresDatabase;
  let sql: postgres.Sql;
  beforeAll(async () => {
    if (typeof stores === "string") return;
    database = await createPostgresDatabase(stores.postgres);
    sql = postgres(database.url, { max: 4, onnotice: () => {} });
  });
  afterAll(async () => {
    await sql?.end();
    await database?.drop();
  });

  test("each share and each spend alert is told once, whoever passed it, and whether Redis's answer was heard", () =>
    withProcesses(async ({ processes, told }) => {
      const budgets: Budget[] = [
        { limitUsd: "0.003", period: "month", hard: false, alertAt: [0.1, 0.5, 1, 2] },
      ];
      const spendAlerts = ["0.0009", "0.0024"].map((thresholdUsd) => ({
        id: newId("alert"),
        thresholdUsd,
        recipients: ["ops@example.com"],
      }));
      const principal = testPrincipal({ project: { budgets, spendAlerts } });
      const [one, ...others] = processes as [Process, Process, Process];
      await spend(one.metering, principal, 3);
      for (const { metering } of others) await spend(metering, principal, 1);
      // What passes a half is said to Redis, which hears it, and whose answer comes too late.
      const leases = await Promise.all(
        [1, 2, 3].map(() => one.metering.accounts.reserve(testReserve(principal))),
      );
      one.cable.hold();
      for (const lease of leases) await lease.settle(full);
      await vi.waitFor(() => expect(one.metering.figures().redisAway).toBe(1), patience);
      one.cable.letGo();
      await vi.waitFor(() => expect(one.metering.figures().redisAway).toBe(0), patience);
      // One is away while the others pass the whole of it, and it passes the double by what it spends alone.
      await one.cable.pull();
      await vi.waitFor(() => expect(one.metering.figures().redisAway).toBe(1), patience);
      await Promise.all(others.map(({ metering }) => spend(metering, principal, 3)));
      await spend(one.metering, principal, 9);
      await one.cable.plug();
      await vi.waitFor(() => expect(one.metering.figures().redisAway).toBe(0), patience);
      for (const { metering } of processes) {
        await spend(metering, principal, 1);
        await metering.flush();
      }
      await vi.waitFor(() => expect(told.length).toBeGreaterThanOrEqual(6), patience);
      for (const { metering } of processes) await metering.close();
      expect(told.map(nameOf).sort()).toEqual(
        ["0.1", "0.5", "1", "2", ...spendAlerts.map(({ id }) => id)].sort(),
      );
    }));

  test("what one spends while its Redis is away counts once when it is back, though another learned of it by the ledger", () =>
    withProcesses(async ({ processes, open }) => {
      const budget: Budget = { limitUsd: "1", period: "month" };
      const principal = testPrincipal({ key: { budget } });
      const [one, two, three] = processes as [Process, Process, Process];
      let requests = 0;
      const spendOn = async ({ metering }: Process, times: number) => {
        await spend(metering, principal, times);
        requests += times;
      };
      for (const process of [one, two]) await spendOn(process, 5);
      // Settled while nothing is heard, and granted alone.
      const lease = await one.metering.accounts.reserve(testReserve(principal));
      one.cable.hold();
      await lease.settle(full);
      requests++;
      await vi.waitFor(() => expect(one.metering.figures().redisAway).toBe(1), patience);
      await spendOn(one, 7);
      await one.metering.flush();
      // Whoever uses it first compares it with the ledger.
      await spendOn(three, 2);
      one.cable.letGo();
      await vi.waitFor(() => expect(one.metering.figures().redisAway).toBe(0), patience);
      const { key } = principal;
      const counter = counterOf({ type: "key", id: key.id, projectId: key.projectId }, budget, {
        user: undefined,
        model: undefined,
        atMs: Date.now(),
      });
      const readAll = async () => {
        let spent: bigint | undefined;
        for (const { metering } of processes) {
          spent = (await metering.budgetFigures([counter]))[0]?.spent;
        }
        return spent;
      };
      expect(await readAll()).toBe(cost * BigInt(requests));
      for (const process of processes) await spendOn(process, 3);
      const next = await open();
      await spendOn(next, 1);
      await readAll();
      expect((await next.metering.budgetFigures([counter]))[0]?.spent).toBe(
        cost * BigInt(requests),
      );
    }));

  test("of a hard budget nothing is overspent while Redis stands still, where only what is held may be granted", () =>
    withProcesses(
      async ({ processes }) => {
        const limitUsd = "0.03";
        const principal = testPrincipal({ project: { budgets: [{ limitUsd, period: "total" }] } });
        let settled = 0;
        const refusedBy = new Set<Process>();
        const spendOn = async (process: Process) => {
          for (;;) {
            try {
              const { accounts } = process.metering;
              await (await accounts.reserve(testReserve(principal))).settle(full);
              settled++;
              if (settled === 20) for (const { cable } of processes) cable.hold();
              expect(settled).toBeLessThanOrEqual(100);
            } catch (error) {
              if (!(error instanceof HubError)) throw error;
              if (error.code === "insufficient_quota" && error.details?.reservedUsd === "0") return;
              if (error.code === "server_is_overloaded") refusedBy.add(process);
              await sleep(20);
            }
          }
        };
        const over = Promise.all(processes.flatMap((it) => [spendOn(it), spendOn(it)]));
        await vi.waitFor(() => expect(refusedBy.size).toBe(3), patience);
        for (const { cable } of processes) cable.letGo();
        await over;
        for (const { metering } of processes) await metering.flush();
        expect(settled).toBe(100);
        const { id } = principal.project;
        const [row] = await sql`
          select sum(cost)::text as spent from billing.requests where project_id = ${id}`;
        expect(parseUsd(row?.spent)).toBe(parseUsd(limitUsd));
      },
      { redisDownBudgets: "held" },
    ));

  type Process = { metering: Metering; cable: Cable };
  type Tested = {
    processes: readonly Process[];
    told: readonly BudgetAlert[];
    /** A further one. */
    open: () => Promise<Process>;
  };

  async function withProcesses(
    use: (tested: Tested) => Promise<void>,
    limits: object = {},
  ): Promise<void> {
    if (typeof stores === "string") return;
    const { redis } = stores;
    await withFolder(async (folder) => {
      const told: BudgetAlert[] = [];
      const processes: Process[] = [];
      const open = async (): Promise<Process> => {
        const cable = await layCable(redis, 6379);
        const metering = await openMetering({
          dataDir: join(folder, String(processes.length)),
          sql,
          redisUrl: cable.url,
          prices: testPrices({ "gpt/input": "0.000001", "gpt/output": "0.000004" }),
          now: Date.now,
          // What is held is told on and on, so that nobody has to ask for an outage to be noticed.
          limits: meteringLimits.parse({
            redisTimeoutMs: 500,
            redisRetryMs: 100,
            budgetLeaseIdleMs: 600_000,
            ...limits,
          }),
          onAlert: (alert) => told.push(alert),
          onError: () => {},
        });
        processes.push({ metering, cable });
        return { metering, cable };
      };
      for (let count = 0; count < 3; count++) await open();
      try {
        await use({ processes, told, open });
      } finally {
        for (const { metering, cable } of processes) {
          await metering.close().catch(() => {});
          cable.letGo();
          await cable.pull();
        }
      }
    });
  }
});

async function spend({ accounts }: Metering, principal: Principal, times: number): Promise<void> {
  for (let turn = 0; turn < times; turn++) {
    await (await accounts.reserve(testReserve(principal))).settle(full);
  }
}

function nameOf({ share, spend_alert }: BudgetAlert): string {
  return spend_alert?.id ?? String(share);
}

const patience = { timeout: 60_000, interval: 20 };
