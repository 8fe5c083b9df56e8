import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import fc from "fast-check";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import type { Counter } from "../budgets/types.ts";
import { spendingByLedger } from "../ledger/spending.ts";
import { meteringLimits } from "./config.ts";
import { type Metering, type MeteringOptions, openMetering } from "./metering.ts";
import {
  openTestRedis,
  testPrices,
  testPrincipal,
  testRedisUrl,
  testReserve,
  testSettlement,
  testTimeMs,
  withFolder,
} from "./testing.ts";
import type { Settlement } from "./types.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database.close());

const perToken = {
  "gpt/input": "0.000001",
  "gpt/output": "0.000004",
  "gpt/cache_read": "0.0000001",
  "small/input": "0.00000015",
  "small/output": "0.0000006",
  "small:sql/output": "0.0000001",
};
const prices = testPrices(perToken);

test("a settled request is priced, recorded and balanced", () =>
  withMetering(async ({ accounts, flush, sql }) => {
    const principal = testPrincipal({ project: { team: "search", costCentre: "CC-7" } });
    const reservation = await accounts.reserve(testReserve(principal));
    const settled = await reservation.settle(
      testSettlement({
        usage: { input: 90, cache_read: 10, output: 20 },
        tags: { job: "nightly" },
      }),
    );
    expect(settled.cost).toBe(parseUsd("0.000171"));

    await flush();
    const [row] = await sql`select *, cost::text as cost from billing.requests`;
    expect(row).toMatchObject({
      project_id: principal.project.id,
      team: "search",
      cost_centre: "CC-7",
      model: "gpt",
      input: "90",
      cache_read: "10",
      cache_write: null,
      pricing: "priced",
      cost: "0.000171000000",
      tags: { job: "nightly" },
    });
    const entries = await sql`
      select account, meter, amount::text as amount from billing.entries order by id`;
    expect(entries).toEqual([
      { account: `expense:${principal.project.id}`, meter: "input", amount: "0.000090000000" },
      { account: `expense:${principal.project.id}`, meter: "cache_read", amount: "0.000001000000" },
      { account: `expense:${principal.project.id}`, meter: "output", amount: "0.000080000000" },
      { account: "accrual:openai", meter: null, amount: "-0.000171000000" },
    ]);
  }));

test("a batch's request is charged the batch's price of a meter that has one, and says whose it was", () =>
  withMetering(
    async ({ accounts, flush, sql }) => {
      const batchId = "batch_1";
      const reservation = await accounts.reserve(testReserve(testPrincipal(), { batchId }));
      const usage = { input: 100, output: 20 };
      const settled = await reservation.settle(testSettlement({ usage }));
      expect(settled.cost).toBe(parseUsd("0.00013"));
      const other = await accounts.reserve(testReserve(testPrincipal()));
      expect((await other.settle(testSettlement({ usage }))).cost).toBe(parseUsd("0.00018"));

      await flush();
      const rows = await sql`select batch_id from billing.requests order by request_id`;
      expect(rows.map((row) => row.batch_id)).toEqual(["batch_1", null]);
    },
    { prices: testPrices({ ...perToken, "gpt/input/batch": "0.0000005" }) },
  ));

test("settling twice changes nothing", () =>
  withMetering(async ({ accounts, flush, sql }) => {
    const reservation = await accounts.reserve(testReserve(testPrincipal()));
    const first = await reservation.settle(testSettlement());
    const second = await reservation.settle(testSettlement({ usage: { input: 9999 } }));
    expect(second).toEqual(first);
    await flush();
    expect(await sql`select count(*)::int as n from billing.requests`).toEqual([{ n: 1 }]);
    expect(await sql`select count(*)::int as n from billing.entries`).toEqual([{ n: 3 }]);
    expect(await sql`select requests::int as n from billing.daily_spend`).toEqual([{ n: 1 }]);
  }));

test("what is released was never held, and leaves no record", () =>
  withMetering(async ({ accounts, flush, sql }) => {
    const principal = testPrincipal({
      key: { limits: { concurrentRequests: 1, requestsPerMinute: 2 } },
    });
    for (let turn = 0; turn < 3; turn++) {
      const reservation = await accounts.reserve(testReserve(principal));
      await reservation.release();
      await reservation.release();
      expect(await reservation.settle(testSettlement())).toEqual({});
    }
    await flush();
    expect(await sql`select count(*)::int as n from billing.requests`).toEqual([{ n: 0 }]);
  }));

test("a used meter without a price makes the request unpriced, not free", () =>
  withMetering(async ({ accounts, flush, sql }) => {
    const reservation = await accounts.reserve(testReserve(testPrincipal()));
    const settled = await reservation.settle(
      testSettlement({ usage: { input: 10, output: 5, reasoning: 3 } }),
    );
    expect(settled).toEqual({});
    await flush();
    expect(await sql`select pricing, cost from billing.requests`).toEqual([
      { pricing: "unpriced", cost: null },
    ]);
    expect(await sql`select count(*)::int as n from billing.entries`).toEqual([{ n: 0 }]);
  }));

test("what a default model without a price for cached tokens would have cost counts them as input", () =>
  withMetering(async ({ accounts, flush, sql }) => {
    const reservation = await accounts.reserve(testReserve(testPrincipal()));
    const usage = { input: 90, cache_read: 10, output: 20 };
    await reservation.settle(testSettlement({ usage, defaultModel: { model: "small" } }));
    await flush();
    expect(await sql`select baseline_cost::text as baseline from billing.requests`).toEqual([
      { baseline: "0.000027000000" },
    ]);
  }));

test("an answer of unknown usage is unpriced, and no answer costs nothing", () =>
  withMetering(async ({ accounts }) => {
    const principal = testPrincipal();
    const empty = await accounts.reserve(testReserve(principal));
    expect(await empty.settle(testSettlement({ usage: {} }))).toEqual({});
    const { usage: _usage, ...unknown } = testSettlement();
    const { answered: _answered, ...failed } = unknown;
    const first = await accounts.reserve(testReserve(principal));
    expect(await first.settle(unknown)).toEqual({});
    const second = await accounts.reserve(testReserve(principal));
    expect(await second.settle({ ...failed, outcome: "upstream_failed", httpStatus: 502 })).toEqual(
      {
        cost: 0n,
      },
    );
  }));

test("an adapter's own price wins over its base's, meter by meter", () =>
  withMetering(async ({ accounts }) => {
    const model = { model: "small", adapter: "sql" };
    const reservation = await accounts.reserve(testReserve(testPrincipal(), { models: [model] }));
    const { cost } = await reservation.settle(
      testSettlement({
        answered: { ...model, upstream: "embedded" },
        usage: { input: 1000, output: 1000 },
      }),
    );
    expect(cost).toBe(parseUsd("0.00015") + parseUsd("0.0001"));
  }));

test("a project that refuses what has no price is told so before anything is done", () =>
  withMetering(async ({ accounts }) => {
    const strict = testPrincipal({ project: { unpriced: "refuse" } });
    const unknown = { models: [{ model: "mystery" }] };
    await expect(accounts.reserve(testReserve(strict, unknown))).rejects.toMatchObject({
      code: "no_price",
    });
    await accounts.reserve(
      testReserve(strict, { models: [{ model: "mystery" }, { model: "gpt" }] }),
    );
    await accounts.reserve(testReserve(testPrincipal(), unknown));
  }));

test("a budget refuses what might overspend it, and the refused request uses up no rate limit", () =>
  withMetering(async ({ accounts }) => {
    const principal = testPrincipal({
      project: { budget: { limitUsd: "0.0005", period: "day" } },
      key: { limits: { requestsPerMinute: 3 } },
    });
    // 100 · $0.000001 + 50 · $0.000004 = $0.0003 at most, $0.00018 in the end.
    const first = await accounts.reserve(testReserve(principal));
    await expect(accounts.reserve(testReserve(principal))).rejects.toMatchObject({
      code: "insufficient_quota",
      details: { scope: "project", limitUsd: "0.0005", spentUsd: "0", reservedUsd: "0.0003" },
    });
    await first.settle(testSettlement());
    const second = await accounts.reserve(testReserve(principal));
    expect(second.headers["x-ratelimit-remaining-requests"]).toBe("1");
  }));

test("who only asks for a count is under the limit of requests, and leaves no record", () =>
  withMetering(async ({ accounts, flush, sql }) => {
    const principal = testPrincipal({
      key: { limits: { requestsPerMinute: 2, concurrentRequests: 1, tokensPerMinute: 10 } },
    });
    const ask = () => accounts.admit(testReserve(principal));
    const first = await ask();
    expect(first.headers["x-ratelimit-remaining-requests"]).toBe("1");
    await expect(ask()).rejects.toMatchObject({ details: { kind: "concurrent" } });
    await first.leave();
    await (await ask()).leave();
    await expect(ask()).rejects.toMatchObject({
      code: "rate_limit_exceeded",
      details: { kind: "requests" },
    });
    await flush();
    expect(await sql`SELECT 1 FROM billing.requests`).toHaveLength(0);
  }));

test("a budget holds where the ledger knows no cost: by the dearest price, or by what was reserved", () =>
  withMetering(async ({ accounts }) => {
    const budget = { limitUsd: "0.0005", period: "day" } as const;
    const { usage: _usage, ...unknown } = testSettlement();
    const cases: [Settlement, string][] = [
      // No price for cache_write; each of its tokens counts as one of the dearest input.
      [testSettlement({ usage: { input: 60, cache_write: 40, output: 30 } }), "0.00022"],
      [unknown, "0.0003"],
      // Told in images, where the model has prices for tokens.
      [testSettlement({ usage: { images: 1 } }), "0.0003"],
    ];
    for (const [settlement, spentUsd] of cases) {
      const principal = testPrincipal({ project: { budget, unpriced: "refuse" } });
      const reservation = await accounts.reserve(testReserve(principal));
      expect(await reservation.settle(settlement)).toEqual({});
      const large = testReserve(principal, { outputTokensMax: 1000 });
      await expect(accounts.reserve(large)).rejects.toMatchObject({ details: { spentUsd } });
    }
  }));

test("budgets start from what the ledger and the spool say was spent", () =>
  withLedger(async ({ dataDir, sql }) => {
    const principal = testPrincipal({ key: { budget: { limitUsd: "0.0004", period: "month" } } });
    const first = await openMetering(optionsFor(dataDir, sql));
    await (await first.accounts.reserve(testReserve(principal))).settle(testSettlement());
    await first.close();

    const second = await openMetering(optionsFor(dataDir, sql));
    await expect(second.accounts.reserve(testReserve(principal))).rejects.toMatchObject({
      code: "insufficient_quota",
      details: { spentUsd: "0.00018" },
    });
    await second.close();
  }));

test("what calls without an answer cost is the operator's and the organisation's, in the ledger as after a restart", () =>
  withLedger(async ({ dataDir, sql }) => {
    const budgets = [
      { limitUsd: "0.0004", period: "month" as const },
      { limitUsd: "0.0004", period: "month" as const, models: ["gpt"], each: ["user" as const] },
    ];
    const principal = testPrincipal({ project: { budget: { limitUsd: "1", period: "month" } } });
    const options = { ...optionsFor(dataDir, sql), organization: () => ({ budgets }) };
    const asked = { endUser: "ada", outputTokensMax: 0 };
    const first = await openMetering(options);
    const settled = await (await first.accounts.reserve(testReserve(principal, asked))).settle(
      testSettlement({
        endUser: "ada",
        unanswered: [
          { model: "gpt", upstream: "other", usage: { input: 100 }, estimated: true },
          { model: "unknown", upstream: "other", usage: { input: 100 } },
        ],
      }),
    );
    expect(settled.cost).toBe(parseUsd("0.00018"));
    await first.flush();
    expect(
      await sql`select account, model, meter, amount::text as amount from billing.entries
        where account like 'overhead:%' or account = 'accrual:other' order by id`,
    ).toEqual([
      { account: "overhead:unanswered", model: "gpt", meter: "input", amount: "0.000100000000" },
      { account: "accrual:other", model: "gpt", meter: null, amount: "-0.000100000000" },
    ]);
    const refusedBy = async ({ accounts }: Awaited<ReturnType<typeof openMetering>>) =>
      (await accounts
        .reserve(testReserve(principal, { ...asked, inputTokens: 200 }))
        .catch((error: { details: object }) => error.details)) as object;
    expect(await refusedBy(first)).toMatchObject({ scope: "organization", spentUsd: "0.00028" });
    await first.close();

    const second = await openMetering(options);
    expect(await refusedBy(second)).toMatchObject({ scope: "organization", spentUsd: "0.00028" });
    // Of the part of one user, too.
    const own = await spendingByLedger(sql, [
      {
        name: "x",
        user: "ada",
        scope: { type: "organization", id: "organization", projectId: undefined },
        startMs: 0,
        endMs: undefined,
        model: undefined,
        limit: 1n,
        budget: { limitUsd: "1", period: "total", models: ["gpt"] },
      } satisfies Counter,
    ]);
    expect(own[0]?.spent).toBe(parseUsd("0.00028"));
    await second.close();
  }));

test("with the database down requests are metered, and the ledger catches up when it is back", () =>
  withLedger(async ({ dataDir, sql }) => {
    const principal = testPrincipal({ key: { budget: { limitUsd: "0.0004", period: "total" } } });
    const errors: unknown[] = [];
    const down = brokenDatabase();
    const first = await openMetering({
      ...optionsFor(dataDir, down),
      onError: (e) => errors.push(e),
    });
    await (await first.accounts.reserve(testReserve(principal))).settle(testSettlement());
    await expect(first.flush()).rejects.toMatchObject({ code: "database_unavailable" });
    await first.close();
    expect(errors.length).toBeGreaterThan(0);

    const second = await openMetering({ ...optionsFor(dataDir, down), onError: () => {} });
    await expect(second.accounts.reserve(testReserve(principal))).rejects.toMatchObject({
      details: { spentUsd: "0.00018" },
    });
    await second.close();

    const third = await openMetering(optionsFor(dataDir, sql));
    expect(await sql`select count(*)::int as n from billing.requests`).toEqual([{ n: 1 }]);
    await third.close();
  }));

test("gateways that share a Redis share limits and budgets, also those that were spent before", async (context) => {
  const redis = await openTestRedis();
  if (typeof redis === "string") return context.skip(redis);
  redis.disconnect();
  await withLedger(async ({ dataDir, sql }) => {
    const principal = testPrincipal({
      key: { limits: { requestsPerMinute: 3 }, budget: { limitUsd: "0.00054", period: "day" } },
    });
    const alone = await openMetering(optionsFor(dataDir, sql));
    await (await alone.accounts.reserve(testReserve(principal))).settle(testSettlement());
    await alone.close();

    const shared = { ...optionsFor(dataDir, sql), redisUrl: testRedisUrl };
    const first = await openMetering(shared);
    const second = await openMetering({ ...shared, dataDir: `${dataDir}/second` });
    const lease = await first.accounts.reserve(testReserve(principal));
    await expect(second.accounts.reserve(testReserve(principal))).rejects.toMatchObject({
      details: { spentUsd: "0.00018", reservedUsd: "0.0003" },
    });
    await lease.settle(testSettlement({ usage: { input: 10 } }));
    await (await second.accounts.reserve(testReserve(principal))).settle(
      testSettlement({ usage: { input: 10 } }),
    );
    await (await first.accounts.reserve(testReserve(principal))).settle(
      testSettlement({ usage: { input: 10 } }),
    );
    await expect(second.accounts.reserve(testReserve(principal))).rejects.toMatchObject({
      code: "rate_limit_exceeded",
    });
    await first.close();
    await second.close();
  });
});

test("a clock that steps frees nothing that requests under way hold, and holds nothing for longer", async () => {
  const clock = { ms: testTimeMs, steadyMs: 0 };
  await withMetering(
    async ({ accounts }) => {
      const principal = testPrincipal({
        key: { limits: { concurrentRequests: 1 }, budget: { limitUsd: "0.0004", period: "total" } },
      });
      const reserve = () => accounts.reserve(testReserve(principal));
      const budgeted = { ...principal, key: { ...principal.key, limits: {} } };
      await reserve();
      for (const step of [3_600_000, -7_200_000]) {
        clock.ms += step;
        await expect(reserve()).rejects.toMatchObject({ code: "rate_limit_exceeded" });
        await expect(accounts.reserve(testReserve(budgeted))).rejects.toMatchObject({
          code: "insufficient_quota",
        });
      }
      clock.steadyMs += 900_000;
      await reserve();
    },
    { now: () => clock.ms, clockMs: () => clock.steadyMs },
  );
});

test("without its Redis a gateway grants its share of the limits, and keeps budgets by the ledger", () =>
  withLedger(async ({ dataDir, sql }) => {
    const principal = testPrincipal({
      key: { limits: { requestsPerMinute: 4 }, budget: { limitUsd: "0.0006", period: "day" } },
    });
    const errors: unknown[] = [];
    const metering = await openMetering({
      ...optionsFor(dataDir, sql),
      redisUrl: "redis://127.0.0.1:9",
      onError: (error) => errors.push(error),
    });
    const first = await metering.accounts.reserve(testReserve(principal));
    expect(first.headers["x-ratelimit-limit-requests"]).toBe("2");
    await first.settle(testSettlement());
    await (await metering.accounts.reserve(testReserve(principal))).settle(
      testSettlement({ usage: { input: 0 } }),
    );
    await expect(metering.accounts.reserve(testReserve(principal))).rejects.toMatchObject({
      code: "rate_limit_exceeded",
    });
    const unlimited = { ...principal, key: { ...principal.key, limits: {} } };
    await metering.accounts.reserve(testReserve(unlimited));
    await expect(metering.accounts.reserve(testReserve(unlimited))).rejects.toMatchObject({
      code: "insufficient_quota",
      details: { spentUsd: "0.00018", reservedUsd: "0.0003" },
    });
    await metering.close();
    expect(errors.length).toBeGreaterThan(0);
  }));

test("a gateway that nobody asks comes back to its Redis by itself", async (context) => {
  const redis = await openTestRedis();
  if (typeof redis === "string") return context.skip(redis);
  redis.disconnect();
  const line = await openLine(testRedisUrl);
  await withMetering(
    async ({ accounts, figures }) => {
      const principal = testPrincipal({ key: { budget: { limitUsd: "1", period: "total" } } });
      for (let turn = 0; turn < 4; turn++) {
        await (await accounts.reserve(testReserve(principal))).settle(testSettlement());
      }
      line.stall(true);
      await vi.waitFor(() => expect(figures().redisAway).toBe(1), { timeout: 30_000 });
      line.stall(false);
      await vi.waitFor(() => expect(figures().redisAway).toBe(0), { timeout: 30_000 });
    },
    {
      redisUrl: line.url,
      now: Date.now,
      limits: meteringLimits.parse({ budgetLeaseIdleMs: 600_000 }),
      onError: () => {},
    },
  );
  await line.close();
}, 90_000);

test("text that Postgres cannot hold is replaced, and does not stop the ledger", () =>
  withMetering(async ({ accounts, flush, figures, sql }) => {
    const reservation = await accounts.reserve(testReserve(testPrincipal()));
    await reservation.settle(
      testSettlement({ tags: { odd: "a\u0000b\ud800c", plain: "\\u0000 \\\\ud800" } }),
    );
    await flush();
    expect(await sql`select tags from billing.requests`).toEqual([
      { tags: { odd: "a\ufffdb\ufffdc", plain: "\\u0000 \\\\ud800" } },
    ]);
    expect(figures().rejectedRecords).toBe(0);
  }));

test("whatever is settled, entries sum to zero and all totals are equal, exactly", () =>
  withMetering(async ({ accounts, flush, sql }) => {
    let expected = 0n;
    const usage = fc.record(
      { input: count, cache_read: count, output: count, reasoning: count },
      { requiredKeys: [] },
    );
    const model = fc.constantFrom(
      { model: "gpt" },
      { model: "small", adapter: "sql" },
      { model: "x" },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(model, usage), { maxLength: 5 }), async (settlements) => {
        for (const [answered, used] of settlements) {
          const reservation = await accounts.reserve(testReserve(testPrincipal()));
          const { cost } = await reservation.settle(
            testSettlement({ answered: { ...answered, upstream: "up" }, usage: used }),
          );
          expected += cost ?? 0n;
        }
      }),
      { numRuns: 40 },
    );
    await flush();
    const [row] = await sql`select
      (select coalesce(sum(cost), 0)::text from billing.requests) as requests,
      (select coalesce(sum(amount), 0)::text from billing.entries where account like 'expense:%') as expenses,
      (select coalesce(sum(cost), 0)::text from billing.daily_spend) as days,
      (select count(*)::int from (select 1 from billing.entries group by request_id having sum(amount) <> 0) as x)
        as unbalanced`;
    for (const total of [row?.requests, row?.expenses, row?.days]) {
      expect(formatUsd(parseUsd(total))).toBe(formatUsd(expected));
    }
    expect(row?.unbalanced).toBe(0);
  }));

const count = fc.nat({ max: 100_000 });

/** Each test has the ledger to itself. */
async function withMetering(
  use: (metering: Metering & { sql: postgres.Sql }) => Promise<void>,
  more: Partial<MeteringOptions> = {},
) {
  await withLedger(async ({ dataDir, sql }) => {
    const metering = await openMetering({ ...optionsFor(dataDir, sql), ...more });
    try {
      await use({ ...metering, sql });
    } finally {
      await metering.close();
    }
  });
}

async function withLedger(use: (ledger: { dataDir: string; sql: postgres.Sql }) => Promise<void>) {
  const { sql } = database;
  await sql`drop schema if exists billing, gateway cascade`;
  await withFolder((dataDir) => use({ dataDir, sql }));
}

function optionsFor(dataDir: string, sql: postgres.Sql): MeteringOptions {
  return {
    dataDir,
    sql,
    prices,
    now: () => testTimeMs,
    limits: meteringLimits.parse({}),
    onError: (error) => {
      throw error;
    },
  };
}

/** A connection to Redis on which words can be held up. */
async function openLine(to: string) {
  const { hostname, port } = new URL(to);
  const sockets = new Set<Socket>();
  let isStalled = false;
  const server = createServer((client) => {
    const upstream = connect(Number(port || 6379), hostname);
    for (const [from, into] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes) => into.write(bytes));
      from.on("error", () => {});
      from.on("close", () => into.destroy());
      if (isStalled) from.pause();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stall(stalled: boolean) {
      isStalled = stalled;
      for (const socket of sockets) stalled ? socket.pause() : socket.resume();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A client whose server is not there. */
function brokenDatabase(): postgres.Sql {
  return postgres({ host: "127.0.0.1", port: 9, max: 1, connect_timeout: 1 });
}
