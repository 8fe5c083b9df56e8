/** Streams that had more reserved as they went on, over real budgets in memory. */
import { expect, test } from "vitest";
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { createKnownBudgets, type KnownBudgets } from "../budgets/known-budgets.ts";
import { createMemoryBudgets } from "../budgets/memory-budgets.ts";
import type { Counter, Figures } from "../budgets/types.ts";
import { createMemoryLimiter } from "../limits/memory-limiter.ts";
import { createAccounts } from "./accounts.ts";
import { defaultMeteringLimits } from "./config.ts";
import { testPrices, testPrincipal, testReserve, testSettlement, testTimeMs } from "./testing.ts";

const usage = { input: 100, output: 300 };
const ofGpt = parseUsd("0.0013");

test("what a call without an answer cost counts for the organisation, also where the answer had more reserved", async () => {
  const { accounts, figures } = open();
  const reservation = await accounts.reserve(
    testReserve(testPrincipal(), { models: [{ model: "gpt" }, { model: "small" }] }),
  );
  await reservation.allowance?.({ model: "gpt" })?.extend({ outputTokens: 400 });
  await reservation.settle(
    testSettlement({
      usage,
      unanswered: [{ model: "small", upstream: "other", usage: { input: 100 }, estimated: true }],
    }),
  );
  expect(await figures()).toEqual([{ spent: ofGpt + parseUsd("0.00005"), held: 0n }]);
});

test.each(["settle", "release"] as const)(
  "where one part of what is reserved fails to %s, the others do all the same",
  async (how) => {
    const failure = new Error("the store is away");
    const { accounts, figures, errors } = open((store) => ({
      async reserve(request) {
        const lease = await store.reserve(request);
        const isSecond = request.requestId.endsWith("+1");
        return isSecond ? { settle: () => Promise.reject(failure) } : lease;
      },
    }));
    const reservation = await accounts.reserve(testReserve(testPrincipal()));
    const allowance = reservation.allowance?.({ model: "gpt" });
    await allowance?.extend({ outputTokens: 100 });
    const before = await figures();
    await allowance?.extend({ outputTokens: 400 });
    expect(before).toEqual([{ spent: 0n, held: parseUsd("0.0005") }]);
    expect(await figures()).toEqual([{ spent: 0n, held: parseUsd("0.0017") }]);
    if (how === "settle") await reservation.settle(testSettlement({ usage }));
    else await reservation.release();
    // What the second part holds expires.
    const lost = parseUsd("0.0002");
    const spent = how === "settle" ? ofGpt - lost : 0n;
    expect(await figures()).toEqual([{ spent, held: lost }]);
    expect(errors).toEqual([failure]);
  },
);

/** @param failing what stands between the accounts and the budgets */
function open(failing?: (store: KnownBudgets) => Pick<KnownBudgets, "reserve">) {
  const now = () => testTimeMs;
  const errors: unknown[] = [];
  const counters = new Map<string, Counter>();
  const store = createMemoryBudgets({ now, leaseTtlMs: 60_000, countersMax: 100 });
  const known = createKnownBudgets({
    store,
    now,
    async load(asked) {
      for (const counter of asked) counters.set(counter.name, counter);
      return { spending: asked.map((counter) => ({ counter, spent: 0n })), isWhole: true };
    },
    refreshEveryMs: 60_000,
    retryMs: 1_000,
    countersMax: 100,
    onRise() {},
    onError: (error) => errors.push(error),
  });
  const budgets: Budget[] = [{ limitUsd: "1", period: "total" }];
  const accounts = createAccounts({
    limiter: createMemoryLimiter({ now, placeTtlMs: 60_000, bucketsMax: 100 }),
    budgets: failing ? failing(known) : known,
    organization: () => ({ budgets }),
    prices: testPrices({
      "gpt/input": "0.000001",
      "gpt/output": "0.000004",
      "small/input": "0.0000005",
      "small/output": "0.0000005",
    }),
    spool: { async append() {}, ensureWritable() {} },
    now,
    limits: defaultMeteringLimits,
    onStoreError: (error) => errors.push(error),
  });
  const figures = async (): Promise<(Figures | undefined)[]> => {
    const found = await store.read([...counters.values()]);
    return found.map((it) => it && { spent: it.spent, held: it.held });
  };
  return { accounts, figures, errors };
}
