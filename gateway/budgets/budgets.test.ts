import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { openTestRedis, testTimeMs } from "../metering/testing.ts";
import { createMemoryBudgets } from "./memory-budgets.ts";
import { periodEnd, periodStart } from "./periods.ts";
import { createRedisBudgets } from "./redis-budgets.ts";
import type { BudgetRequest, BudgetStore } from "./types.ts";

const redis = await openTestRedis();
afterAll(() => typeof redis !== "string" && redis.disconnect());

type Clock = { ms: number };
type Open = (clock: Clock) => BudgetStore;
const leaseTtlMs = 60_000;
const inMemory: Open = (clock) => createMemoryBudgets({ now: () => clock.ms, leaseTtlMs });
const inRedis: Open = (clock) => {
  if (typeof redis === "string") throw new Error(redis);
  return createRedisBudgets({
    redis,
    leaseTtlMs,
    now: () => clock.ms,
    prefix: `test-${randomUUID()}`,
  });
};

conformance("in this process", inMemory);
describe.skipIf(typeof redis === "string")(typeof redis === "string" ? redis : "with Redis", () => {
  conformance("in Redis", inRedis);

  test("memory and Redis grant and refuse the same", async () => {
    const amount = fc.bigInt({ min: 0n, max: 3n * 10n ** 16n });
    const step = fc.record({
      waitMs: fc.nat({ max: 30_000 }),
      amount,
      cost: fc.option(amount, { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const clock = { ms: testTimeMs };
        const stores = [inMemory(clock), inRedis(clock)];
        for (const { waitMs, amount, cost } of steps) {
          clock.ms += waitMs;
          const request = ask(amount, { key: "30000.000000000001", project: "70000" }, clock);
          const results = [];
          for (const store of stores) {
            const lease = await store.reserve(request).catch((error: unknown) => error);
            results.push(lease instanceof Error ? lease : "granted");
            if (!(lease instanceof Error) && cost !== undefined) await settle(lease, cost);
          }
          expect(results[1]).toEqual(results[0]);
        }
      }),
      { numRuns: 30 },
    );
  });
});

test("periods are those of the calendar in UTC", () => {
  const atMs = Date.parse("2026-12-31T23:59:59.999Z");
  expect(new Date(periodStart("day", atMs)).toISOString()).toBe("2026-12-31T00:00:00.000Z");
  expect(new Date(periodStart("month", atMs)).toISOString()).toBe("2026-12-01T00:00:00.000Z");
  expect(new Date(periodEnd("month", atMs) ?? 0).toISOString()).toBe("2027-01-01T00:00:00.000Z");
  expect(periodEnd("day", atMs)).toBe(periodEnd("month", atMs));
  expect(periodEnd("total", atMs)).toBeUndefined();
});

function conformance(name: string, open: Open): void {
  describe(name, () => {
    test("what is reserved and not used is given back; a budget may be used up to its last pico-dollar", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const lease = await store.reserve(ask("0.6", { key: "1" }, clock));
      await expect(store.reserve(ask("0.5", { key: "1" }, clock))).rejects.toMatchObject({
        code: "insufficient_quota",
        details: {
          scope: "key",
          limitUsd: "1",
          spentUsd: "0",
          reservedUsd: "0.6",
          requestedUsd: "0.5",
          resetAt: "2026-11-22T00:00:00.000Z",
        },
      });
      await lease.settle(parseUsd("0.000000000001"));
      const rest = await store.reserve(ask("0.999999999999", { key: "1" }, clock));
      await rest.settle(parseUsd("0.999999999999"));
      await expect(store.reserve(ask("0", { key: "1" }, clock))).rejects.toMatchObject({
        details: { spentUsd: "1" },
      });
    });

    test("a refusal by one scope holds nothing in the other", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      await expect(
        store.reserve(ask("1", { key: "5", project: "0.5" }, clock)),
      ).rejects.toMatchObject({
        details: { scope: "project" },
      });
      await store.reserve(ask("5", { key: "5" }, clock));
    });

    test("a second settlement changes nothing", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const lease = await store.reserve(ask("1", { project: "2" }, clock));
      await lease.settle(parseUsd("1"));
      await lease.settle(parseUsd("1"));
      await store.reserve(ask("1", { project: "2" }, clock));
    });

    test("a reservation that nobody settles expires, and a late settlement still counts", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const late = await store.reserve(ask("1", { key: "1" }, clock));
      clock.ms += leaseTtlMs - 1;
      await expect(store.reserve(ask("1", { key: "1" }, clock))).rejects.toThrow("is reserved");
      clock.ms += 1;
      const next = await store.reserve(ask("1", { key: "1" }, clock));
      await next.settle(parseUsd("0.25"));
      await late.settle(parseUsd("0.25"));
      await expect(store.reserve(ask("0.6", { key: "1" }, clock))).rejects.toMatchObject({
        details: { spentUsd: "0.5", reservedUsd: "0" },
      });
    });

    test("a new period begins with nothing spent, and late costs stay in the old one", async () => {
      const clock = { ms: Date.parse("2026-11-30T23:59:50Z") };
      const store = open(clock);
      const before = await store.reserve(ask("1", { key: "1" }, clock, "month"));
      clock.ms += 20_000;
      const after = await store.reserve(ask("1", { key: "1" }, clock, "month"));
      await before.settle(parseUsd("1"));
      await after.settle(parseUsd("0.5"));
      await expect(store.reserve(ask("0.6", { key: "1" }, clock, "month"))).rejects.toMatchObject({
        details: { spentUsd: "0.5", resetAt: "2027-01-01T00:00:00.000Z" },
      });
    });

    test("spending starts from the ledger, and is never lowered to it", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const ledger = (usd: string) => {
        const spent = {
          day: parseUsd(usd),
          month: parseUsd(usd),
          total: parseUsd("12345.678901234567"),
        };
        return [{ projectId: "p", type: "key" as const, id: "k", atMs: clock.ms, spent }];
      };
      await store.raise(ledger("3"));
      await expect(store.reserve(ask("1", { key: "1" }, clock, "total"))).rejects.toMatchObject({
        details: { spentUsd: "12345.678901234567", resetAt: null },
      });
      await expect(store.reserve(ask("2", { key: "4" }, clock))).rejects.toMatchObject({
        details: { spentUsd: "3" },
      });
      await (await store.reserve(ask("1", { key: "4" }, clock))).settle(parseUsd("1"));
      await store.raise(ledger("3.5"));
      await expect(store.reserve(ask("1", { key: "4" }, clock))).rejects.toMatchObject({
        details: { spentUsd: "4" },
      });
    });

    test("however many reserve at once, nothing is overspent and nothing stays reserved", async () => {
      const requests = fc.array(
        fc.record({
          amount: fc.bigInt({ min: 0n, max: 400n }),
          settled: fc.boolean(),
          part: fc.nat({ max: 100 }),
        }),
        { minLength: 1, maxLength: 60 },
      );
      await fc.assert(
        fc.asyncProperty(requests, async (asked) => {
          const clock = { ms: testTimeMs };
          const store = open(clock);
          const budgets = { key: "0.0000000006", project: "0.000000001" };
          let spent = 0n;
          await Promise.all(
            asked.map(async ({ amount, settled, part }) => {
              const lease = await store.reserve(ask(amount, budgets, clock)).catch(() => undefined);
              if (lease === undefined || !settled) return;
              const cost = (amount * BigInt(part)) / 100n;
              spent += cost;
              await lease.settle(cost);
            }),
          );
          expect(spent).toBeLessThanOrEqual(600n);
          clock.ms += leaseTtlMs;
          // All that was not spent is free again.
          if (spent < 600n) await store.reserve(ask(600n - spent, budgets, clock));
          await expect(store.reserve(ask(1n, budgets, clock))).rejects.toMatchObject({
            code: "insufficient_quota",
          });
        }),
        { numRuns: 25 },
      );
    });

    test("without budgets nothing is refused", async () => {
      const clock = { ms: testTimeMs };
      const lease = await open(clock).reserve(ask("1000000", {}, clock));
      await lease.settle(0n);
    });
  });
}

/** `reserve` answered with a lease, which is not an error. */
async function settle(lease: unknown, cost: bigint): Promise<void> {
  await (lease as { settle(cost: bigint): Promise<void> }).settle(cost);
}

let requests = 0;
function ask(
  amount: string | bigint,
  limits: { key?: string; project?: string },
  clock: Clock,
  period: Budget["period"] = "day",
): BudgetRequest {
  const budget = (limitUsd: string | undefined) =>
    limitUsd !== undefined && { budget: { limitUsd, period } };
  return {
    requestId: `request-${requests++}`,
    projectId: "p",
    scopes: [
      { type: "key", id: "k", ...budget(limits.key) },
      { type: "project", id: "p", ...budget(limits.project) },
    ],
    amount: typeof amount === "bigint" ? amount : parseUsd(amount),
    atMs: clock.ms,
  };
}
