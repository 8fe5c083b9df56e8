/** A budget that several processes share by Redis and Postgres: raced for, and with one of them killed. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { createPostgresDatabase, type PostgresDatabase } from "../../test/support/database.ts";
import { findStores } from "../../test/support/optional-parts.ts";
import { counterOf } from "../budgets/counters.ts";
import { meteringLimits } from "./config.ts";
import { openMetering } from "./metering.ts";
import { testPrices, testPrincipal, testReserve, testSettlement, withFolder } from "./testing.ts";
import type { Principal } from "./types.ts";

const stores = await findStores();
const why = typeof stores === "string" ? ` (skipped: ${stores})` : "";
/** Room for a hundred requests, of $0.0003 each. */
const limitUsd = "0.03";
const full = testSettlement({ usage: { input: 100, output: 50 } });

describe.skipIf(typeof stores === "string")(`three processes on Postgres and Redis${why}`, () => {
  let database: PostgresDatabase;
  let sql: postgres.Sql;
  beforeAll(async () => {
    if (typeof stores === "string") return;
    database = await createPostgresDatabase(stores.postgres);
    sql = postgres(database.url, { max: 2, onnotice: () => {} });
  });
  afterAll(async () => {
    await sql?.end();
    await database?.drop();
  });

  const spentBy = async ({ project }: Principal): Promise<string> => {
    const [row] = await sql`
      select sum(cost)::text as spent from billing.requests where project_id = ${project.id}`;
    return formatUsd(parseUsd(row?.spent ?? "0"));
  };
  const urls = () => {
    if (typeof stores === "string") throw new Error(stores);
    return { databaseUrl: database.url, redisUrl: stores.redis };
  };

  test("of a thousand requests a hundred pass, the rest are told why, and nothing is overspent", () =>
    withFolder(async (folder) => {
      const principal = testPrincipal({
        project: { budgets: [{ limitUsd, period: "month", timeZone: "Asia/Kathmandu" }] },
      });
      const gateways = await Promise.all(
        [334, 333, 333].map((requests, index) =>
          startGateway({
            dataDir: join(folder, String(index)),
            ...urls(),
            principal,
            requests,
            // Those that take their time hold money ahead of their requests, which the first one wants back.
            ...(index > 0 && { atATime: 8 }),
            neverSettled: 0,
            reservationTtlMs: 60_000,
          }),
        ),
      );
      for (const { go } of gateways) go();
      const lines = (await Promise.all(gateways.map(({ over }) => over))).flat();
      expect(lines.filter((line) => line === "settled")).toHaveLength(100);
      const refusals = lines.filter((line) => line.startsWith("refused "));
      expect(refusals).toHaveLength(900);
      for (const refusal of refusals) {
        const details = JSON.parse(refusal.slice("refused ".length));
        expect(details).toMatchObject({ scope: "project", limitUsd, timeZone: "Asia/Kathmandu" });
        expect(Date.parse(details.resetAt)).toBeGreaterThan(Date.now());
        // There was no room for it.
        const used = parseUsd(details.spentUsd) + parseUsd(details.reservedUsd);
        expect(used).toBeLessThanOrEqual(parseUsd(limitUsd));
        expect(used + parseUsd(details.requestedUsd)).toBeGreaterThan(parseUsd(limitUsd));
      }
      expect(await spentBy(principal)).toBe(limitUsd);
    }));

  test("what a killed process held comes back, and nothing is overspent", () =>
    withFolder(async (folder) => {
      const principal = testPrincipal({ key: { budgets: [{ limitUsd, period: "total" }] } });
      const gateways = await Promise.all(
        [10, 0, 0].map((neverSettled, index) =>
          startGateway({
            dataDir: join(folder, String(index)),
            ...urls(),
            principal,
            requests: neverSettled === 0 ? 300 : 40,
            neverSettled,
            reservationTtlMs: 3_000,
          }),
        ),
      );
      const [victim, ...others] = gateways;
      if (!victim) throw new Error("three were started");
      await new Promise<void>((resolve) => {
        victim.onLine((line, index) => line === "held" && index >= 9 && resolve());
        victim.go();
      });
      // It is killed while all of them spend.
      others[0]?.onLine((_line, index) => index === 0 && victim.process.kill("SIGKILL"));
      for (const { go } of others) go();
      const lines = (await Promise.all(others.map(({ over }) => over))).flat();
      const ofVictim = await victim.over;
      expect(victim.process.signalCode).toBe("SIGKILL");
      const passed = (of: string[]) => of.filter((line) => line === "settled").length;
      expect(ofVictim.filter((line) => line === "held").length).toBeGreaterThanOrEqual(10);
      expect(passed(lines) + passed(ofVictim)).toBeLessThanOrEqual(90);

      // What waits in the dead one's spool comes to the ledger with its next start.
      const next = await openMetering({
        dataDir: join(folder, "0"),
        sql,
        redisUrl: urls().redisUrl,
        prices: testPrices({ "gpt/input": "0.000001", "gpt/output": "0.000004" }),
        now: Date.now,
        limits: meteringLimits.parse({ redisTimeoutMs: 60_000, budgetLoadTimeoutMs: 60_000 }),
        onError(error) {
          throw error;
        },
      });
      const refused = await spendAll(next.accounts, principal);
      expect(refused.details).toMatchObject({ spentUsd: limitUsd, reservedUsd: "0" });
      await next.close();
      // The dead one may have told Redis of a request that it could not write down any more.
      const spent = parseUsd(await spentBy(principal));
      expect(spent).toBeLessThanOrEqual(parseUsd(limitUsd));
      expect(spent).toBeGreaterThanOrEqual(parseUsd("0.0003") * BigInt(passed(lines)));
    }));

  test("what a killed process had ahead and did not spend comes back when its folder is opened again, exactly", () =>
    withFolder(async (folder) => {
      const budget = { limitUsd: "10", period: "total" } as const;
      const principal = testPrincipal({ key: { budgets: [budget] } });
      const options = { dataDir: join(folder, "0"), ...urls(), principal };
      const victim = await startGateway({
        ...{ ...options, requests: 201, neverSettled: 1, atATime: 1, reservationTtlMs: 1_000 },
      });
      await new Promise<void>((resolve) => {
        victim.onLine((_line, index) => index >= 200 && resolve());
        victim.go();
      });
      victim.process.kill("SIGKILL");
      await victim.over;
      const next = await openMetering({
        dataDir: options.dataDir,
        sql,
        redisUrl: options.redisUrl,
        prices: testPrices({ "gpt/input": "0.000001", "gpt/output": "0.000004" }),
        now: Date.now,
        limits: meteringLimits.parse({
          ...{ redisTimeoutMs: 60_000, budgetLoadTimeoutMs: 60_000, rehydrateEveryMs: 200 },
        }),
        onError(error) {
          throw error;
        },
      });
      const { id, projectId } = principal.key;
      const counter = counterOf({ type: "key", id, projectId: projectId ?? undefined }, budget, {
        ...{ user: undefined, model: undefined, atMs: Date.now() },
      });
      const spent = parseUsd("0.0003") * 200n;
      const figures = async () => (await next.budgetFigures([counter]))[0];
      const before = await figures();
      expect((before?.spent ?? 0n) + (before?.held ?? 0n)).toBeGreaterThan(
        spent + parseUsd("0.0003"),
      );
      await vi.waitFor(async () => expect(await figures()).toEqual({ spent, held: 0n }), {
        timeout: 60_000,
      });
      await next.flush();
      expect(parseUsd(await spentBy(principal))).toBe(spent);
      await next.close();
    }));
});

/** Asks until the budget is spent and nothing is held any more; leases of the dead expire meanwhile. */
async function spendAll(
  accounts: Awaited<ReturnType<typeof openMetering>>["accounts"],
  principal: Principal,
): Promise<HubError> {
  for (;;) {
    try {
      await (await accounts.reserve(testReserve(principal))).settle(full);
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== "insufficient_quota") throw error;
      if (error.details?.reservedUsd === "0") return error;
      await sleep(100);
    }
  }
}

type Gateway = {
  process: ChildProcess;
  go: () => void;
  onLine: (listener: (line: string, index: number) => void) => void;
  /** Its whole lines after the first, once it has ended. */
  over: Promise<string[]>;
};

async function startGateway(asked: Record<string, unknown>): Promise<Gateway> {
  const child = spawn(process.execPath, ["--import", "tsx", worker, JSON.stringify(asked)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines: string[] = [];
  const listeners: ((line: string, index: number) => void)[] = [];
  const reader = createInterface(child.stdout);
  const ready = once(reader, "line");
  const over = once(child, "close").then(() => lines);
  await ready;
  reader.on("line", (line) => {
    lines.push(line);
    for (const listener of listeners) listener(line, lines.length - 1);
  });
  return {
    process: child,
    go: () => child.stdin.write("go\n"),
    onLine: (listener) => listeners.push(listener),
    over,
  };
}

const worker = fileURLToPath(new URL("budget-race/worker.ts", import.meta.url));
