import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { openTestRedis, testTimeMs } from "../metering/testing.ts";
import { counterOf, holdsOf } from "./counters.ts";
import { createMemoryBudgets } from "./memory-budgets.ts";
import { createRedisBudgets } from "./redis-budgets.ts";
import { createModelBudgets } from "./testing.ts";
import type {
  BudgetLease,
  BudgetRequest,
  BudgetScope,
  BudgetStore,
  SharedBudgets,
  Spending,
} from "./types.ts";

const redis = await openTestRedis();
afterAll(() => typeof redis !== "string" && redis.disconnect());

type Clock = { ms: number };
type Known = Pick<BudgetStore, "raise" | "read"> & {
  reserve(request: BudgetRequest): Promise<BudgetLease>;
};
type Open = (clock: Clock) => Known;
const leaseTtlMs = 60_000;
const advanceMs = 5_000;
const inMemory: Open = (clock) =>
  knowing(createMemoryBudgets({ now: () => clock.ms, leaseTtlMs, countersMax: 100 }));
const inRedis: Open = (clock) => {
  if (typeof redis === "string") throw new Error(redis);
  return knowing(
    createRedisBudgets({
      redis,
      leaseTtlMs,
      advanceMs,
      now: () => clock.ms,
      prefix: `test-${randomUUID()}`,
    }),
  );
};

/** As over a ledger in which nothing has been spent. */
function knowing(store: BudgetStore | SharedBudgets): Known {
  return {
    ...store,
    async reserve(request) {
      for (;;) {
        const lease = await store.reserve(request);
        if ("recalled" in lease) throw new Error("nobody holds anything");
        if (!("unknown" in lease)) return lease;
        await store.raise(lease.unknown.map((counter) => ({ counter, spent: 0n })));
      }
    },
  };
}

conformance("in this process", inMemory);
conformance("in the model of what is shared", (clock) =>
  knowing(createModelBudgets({ now: () => clock.ms, leaseTtlMs, advanceMs })),
);
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
      await lease.settle({ cost: parseUsd("0.000000000001"), model: undefined });
      const rest = await store.reserve(ask("0.999999999999", { key: "1" }, clock));
      await rest.settle({ cost: parseUsd("0.999999999999"), model: undefined });
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
      await lease.settle({ cost: parseUsd("1"), model: undefined });
      await lease.settle({ cost: parseUsd("1"), model: undefined });
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
      await next.settle({ cost: parseUsd("0.25"), model: undefined });
      await late.settle({ cost: parseUsd("0.25"), model: undefined });
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
      await before.settle({ cost: parseUsd("1"), model: undefined });
      await after.settle({ cost: parseUsd("0.5"), model: undefined });
      await expect(store.reserve(ask("0.6", { key: "1" }, clock, "month"))).rejects.toMatchObject({
        details: { spentUsd: "0.5", resetAt: "2027-01-01T00:00:00.000Z" },
      });
    });

    test("spending starts from the ledger, and is never lowered to it", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const ledger = (usd: string): Spending[] =>
        (["day", "total"] as const).map((period) => ({
          counter: counterOf(keyScope, { limitUsd: "1", period }, { ...nobody, atMs: clock.ms }),
          spent: parseUsd(period === "day" ? usd : "12345.678901234567"),
        }));
      await store.raise(ledger("3"));
      await expect(store.reserve(ask("1", { key: "1" }, clock, "total"))).rejects.toMatchObject({
        details: { spentUsd: "12345.678901234567", resetAt: null },
      });
      await expect(store.reserve(ask("2", { key: "4" }, clock))).rejects.toMatchObject({
        details: { spentUsd: "3" },
      });
      await (await store.reserve(ask("1", { key: "4" }, clock))).settle({
        cost: parseUsd("1"),
        model: undefined,
      });
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
              await lease.settle({ cost, model: undefined });
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

    test("a request is held in every budget of every scope at once, and each says whose it is", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const organization: BudgetScope = {
        type: "organization",
        id: "organization",
        projectId: undefined,
        budgets: [{ limitUsd: "10", period: "year", timeZone: "Europe/Berlin" }],
      };
      const key: BudgetScope = {
        ...keyScope,
        budgets: [
          { limitUsd: "3", period: "week", timeZone: "America/New_York", each: ["user"] },
          { limitUsd: "2", period: "day", each: ["model"] },
          { limitUsd: "0.000000000001", period: "day", models: ["o3"] },
        ],
      };
      const by = (models: Record<string, bigint>, user?: string) =>
        store.reserve(askOf([organization, key], models, clock, user));
      const ada = await by({ gpt: parseUsd("2") }, "ada");
      await expect(by({ gpt: parseUsd("1") }, "bob")).rejects.toMatchObject({
        details: { scope: "key", model: "gpt", reservedUsd: "2" },
      });
      await ada.settle({ cost: parseUsd("2"), model: "gpt" });
      await expect(by({ small: parseUsd("1.5") }, "ada")).rejects.toMatchObject({
        message: expect.stringContaining("for user 'ada'"),
        details: {
          user: "ada",
          spentUsd: "2",
          timeZone: "America/New_York",
          resetAt: "2026-11-23T05:00:00.000Z",
        },
      });
      const bob = await by({ small: parseUsd("1.5"), "small:sql": parseUsd("1") }, "bob");
      await bob.settle({ cost: parseUsd("1"), model: "small:sql" });
      // What did not answer has spent nothing.
      await (await by({ small: parseUsd("2") }, "eve")).settle({
        cost: parseUsd("2"),
        model: "small",
      });
      await expect(by({ "o3:sql": 2n })).rejects.toMatchObject({ code: "insufficient_quota" });
      await (await by({ other: parseUsd("2") })).settle({ cost: parseUsd("2"), model: "other" });
      await (await by({ next: parseUsd("2") })).settle({ cost: parseUsd("2"), model: "next" });
      await expect(by({ last: parseUsd("1.1") })).rejects.toMatchObject({
        details: { scope: "organization", spentUsd: "9", resetAt: "2026-12-31T23:00:00.000Z" },
      });
    });

    test("a soft budget refuses nothing and tells how it rose", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const soft: BudgetScope = {
        ...keyScope,
        budgets: [{ limitUsd: "1", period: "day", hard: false, alertAt: [0.5] }],
      };
      const request = askOf([soft], { gpt: parseUsd("3") }, clock);
      const lease = await store.reserve(request);
      const counters = request.holds.map(({ counter }) => counter);
      expect(await store.read(counters)).toMatchObject([{ spent: 0n, held: parseUsd("3") }]);
      expect(await lease.settle({ cost: parseUsd("2"), model: "gpt" })).toEqual([
        { counter: counters[0], before: 0n, after: parseUsd("2") },
      ]);
      expect(await store.raise([{ counter: counters[0] as never, spent: parseUsd("5") }])).toEqual([
        { counter: counters[0], before: parseUsd("2"), after: parseUsd("5") },
      ]);
      expect(await store.read(counters)).toMatchObject([{ spent: parseUsd("5"), held: 0n }]);
    });

    test("what calls without an answer cost counts for the organisation alone", async () => {
      const clock = { ms: testTimeMs };
      const store = open(clock);
      const organization: BudgetScope = {
        type: "organization",
        id: "organization",
        projectId: undefined,
        budgets: [
          { limitUsd: "9", period: "day" },
          { limitUsd: "9", period: "day", models: ["other"] },
        ],
      };
      const key: BudgetScope = { ...keyScope, budgets: [{ limitUsd: "9", period: "day" }] };
      const models = { gpt: parseUsd("3"), other: parseUsd("1") };
      const request = askOf([organization, key], models, clock);
      const lease = await store.reserve(request);
      const overheads = [
        { cost: parseUsd("0.5"), model: "gpt" },
        { cost: parseUsd("0.25"), model: "other" },
      ];
      await lease.settle({ cost: parseUsd("2"), model: "gpt", overheads });
      const counters = request.holds.map(({ counter }) => counter);
      expect(await store.read(counters)).toMatchObject([
        { spent: parseUsd("2.75") },
        { spent: parseUsd("0.25") },
        { spent: parseUsd("2") },
      ]);
    });

    test("without budgets nothing is refused", async () => {
      const clock = { ms: testTimeMs };
      const lease = await open(clock).reserve(ask("1000000", {}, clock));
      await lease.settle({ cost: 0n, model: undefined });
    });
  });
}

/** `reserve` answered with a lease, which is not an error. */
async function settle(lease: unknown, cost: bigint): Promise<void> {
  await (lease as BudgetLease).settle({ cost, model: undefined });
}

const keyScope = { type: "key", id: "k", projectId: "p" } as const;
const nobody = { user: undefined, model: undefined };

let requests = 0;
function ask(
  amount: string | bigint,
  limits: { key?: string; project?: string },
  clock: Clock,
  period: Budget["period"] = "day",
): BudgetRequest {
  const budgets = (limitUsd: string | undefined): Budget[] =>
    limitUsd === undefined ? [] : [{ limitUsd, period }];
  return askOf(
    [
      { ...keyScope, budgets: budgets(limits.key) },
      { type: "project", id: "p", projectId: "p", budgets: budgets(limits.project) },
    ],
    { gpt: typeof amount === "bigint" ? amount : parseUsd(amount) },
    clock,
  );
}

function askOf(
  scopes: BudgetScope[],
  models: Record<string, bigint>,
  clock: Clock,
  endUser?: string,
): BudgetRequest {
  return {
    requestId: `request-${requests++}`,
    holds: holdsOf({ scopes, endUser, models: new Map(Object.entries(models)), atMs: clock.ms }),
  };
}
