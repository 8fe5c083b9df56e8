import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { limitRule, type RateLimits, rateLimits } from "../../sdk/protocol/catalog.ts";
import { openTestRedis, testTimeMs } from "../metering/testing.ts";
import { formatGoDuration, rateLimitHeaders } from "./headers.ts";
import { createMemoryLimiter } from "./memory-limiter.ts";
import { createRedisLimiter } from "./redis-limiter.ts";
import type { LimitRequest, RateLimiter } from "./types.ts";

const redis = await openTestRedis();
afterAll(() => typeof redis !== "string" && redis.disconnect());

test("limits that would share a bucket are refused, and those that would not are taken", () => {
  const rule = { kind: "requests", limit: 5 } as const;
  const isTaken = (limits: object) => rateLimits.safeParse(limits).success;
  expect(isTaken({ rules: [rule, { ...rule, limit: 9 }] })).toBe(false);
  expect(isTaken({ requestsPerMinute: 60, rules: [rule] })).toBe(false);
  expect(isTaken({ requestsPerMinute: 60, rules: [{ ...rule, windowSeconds: 1 }] })).toBe(true);
  expect(isTaken({ requestsPerMinute: 60, rules: [{ ...rule, each: ["user"] }] })).toBe(true);
  expect(isTaken({ concurrentRequests: 5, rules: [{ ...rule, kind: "concurrent" }] })).toBe(false);
});

type Clock = { ms: number };
type Open = (clock: Clock) => RateLimiter;
const placeTtlMs = 30_000;
const inMemory: Open = (clock) =>
  createMemoryLimiter({ now: () => clock.ms, placeTtlMs, bucketsMax: 100_000 });
const inRedis: Open = (clock) => {
  if (typeof redis === "string") throw new Error(redis);
  return createRedisLimiter({
    redis,
    placeTtlMs,
    now: () => clock.ms,
    prefix: `test-${randomUUID()}`,
  });
};

conformance("in this process", inMemory);
describe.skipIf(typeof redis === "string")(typeof redis === "string" ? redis : "with Redis", () => {
  conformance("in Redis", inRedis);

  test("memory and Redis grant and refuse the same", async () => {
    const step = fc.record({
      waitMs: fc.nat({ max: 20_000 }),
      input: fc.nat({ max: 60 }),
      output: fc.nat({ max: 60 }),
      used: fc.option(fc.nat({ max: 150 }), { nil: undefined }),
      end: fc.constantFrom("settle", "cancel", "never"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const clock = { ms: testTimeMs };
        const limiters = [inMemory(clock), inRedis(clock)];
        for (const { waitMs, input, output, used, end } of steps) {
          clock.ms += waitMs;
          const request = ask(
            { requestsPerMinute: 5, concurrentRequests: 3 },
            { inputTokens: input, outputTokensMax: output },
            { tokensPerMinute: 100 },
          );
          const results = [];
          for (const limiter of limiters) {
            results.push(await outcome(limiter, request, end, used));
          }
          expect(results[1]).toEqual(results[0]);
        }
      }),
      { numRuns: 30 },
    );
  });

  test("without a test's clock Redis uses its own", async () => {
    if (typeof redis === "string") return;
    const prefix = `test-${randomUUID()}`;
    const limiter = createRedisLimiter({ redis, placeTtlMs, prefix });
    const request = ask({ requestsPerMinute: 2, concurrentRequests: 2 });
    await limiter.acquire(request);
    await limiter.acquire({ ...request, requestId: "second" });
    await expect(limiter.acquire({ ...request, requestId: "third" })).rejects.toMatchObject({
      code: "rate_limit_exceeded",
    });
    // What is stored goes away by itself, and a refused request has not made it stay longer.
    for (const key of await redis.keys(`${prefix}*`)) {
      const ttl = await redis.pttl(key);
      expect(ttl).toBeGreaterThan(0);
      expect(ttl).toBeLessThanOrEqual(61_000);
    }
  });
});

describe.skipIf(typeof redis === "string")("several processes whose clocks step", () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test("are granted together what Redis's clock allows, and no more", async () => {
    if (typeof redis === "string") return;
    const prefix = `test-${randomUUID()}`;
    const limiters = [1, 2, 3].map(() => createRedisLimiter({ redis, placeTtlMs, prefix }));
    const [limit, burst] = [40, 10];
    const rule = limitRule.parse({ kind: "requests", limit, burst, windowSeconds: 1 });
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() });
    const startedAt = performance.now();
    let granted = 0;
    let refused = 0;
    for (let turn = 0; performance.now() - startedAt < 1_500; turn++) {
      vi.setSystemTime(Date.now() + (turn % 2 === 0 ? 5 : -10) * 3_600_000);
      const asked = limiters.map((limiter) => limiter.acquire(ask({ rules: [rule] })));
      for (const { status } of await Promise.allSettled(asked)) {
        if (status === "fulfilled") granted++;
        else refused++;
      }
    }
    // What leaked from its first request to its last, measured by a clock that does not step.
    const leaked = ((performance.now() - startedAt) * limit) / 1000;
    expect(granted).toBeGreaterThanOrEqual(burst);
    expect(granted).toBeLessThanOrEqual(burst + Math.floor(leaked) + 1);
    expect(refused).toBeGreaterThan(0);
  });
});

test("durations are written as Go writes them", () => {
  const written = [0, 0.2, 12, 1000, 8640, 60_000, 360_000, 3_600_000, 5_430_500];
  expect(written.map(formatGoDuration)).toEqual([
    "0s",
    "1ms",
    "12ms",
    "1s",
    "8.64s",
    "1m0s",
    "6m0s",
    "1h0m0s",
    "1h30m30.5s",
  ]);
});

function conformance(name: string, open: Open): void {
  describe(name, () => {
    test("as many requests as the limit pass at once, and the next one is told when to come back", async () => {
      const clock = { ms: testTimeMs };
      const limiter = open(clock);
      const request = ask({ requestsPerMinute: 3 });
      const first = await limiter.acquire(request);
      expect(rateLimitHeaders(first)).toEqual({
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "20s",
      });
      await limiter.acquire(request);
      await limiter.acquire(request);
      await expect(limiter.acquire(request)).rejects.toMatchObject({
        code: "rate_limit_exceeded",
        retryAfterMs: 20_000,
        details: { scope: "key", kind: "requests", limit: 3, used: 3 },
      });
      clock.ms += 19_999;
      await expect(limiter.acquire(request)).rejects.toMatchObject({
        retryAfterMs: expect.closeTo(1, 3),
      });
      clock.ms += 1;
      await limiter.acquire(request);
    });

    test("refused requests neither use anything up nor prolong the wait", async () => {
      const clock = { ms: testTimeMs };
      const limiter = open(clock);
      const request = ask({ requestsPerMinute: 1 }, {}, { tokensPerMinute: 100 });
      await limiter.acquire(request);
      for (let second = 0; second < 59; second++) {
        clock.ms += 1000;
        await expect(limiter.acquire(request)).rejects.toMatchObject({
          code: "rate_limit_exceeded",
        });
      }
      clock.ms += 1000;
      const grant = await limiter.acquire(request);
      expect(grant.tokens?.remaining).toBe(90);
    });

    test("a refusal by the project takes nothing from the key", async () => {
      const limiter = open({ ms: testTimeMs });
      const request = ask({ requestsPerMinute: 10 }, {}, { requestsPerMinute: 1 });
      const first = await limiter.acquire(request);
      expect(first.requests).toMatchObject({ limit: 1, remaining: 0 });
      await expect(limiter.acquire(request)).rejects.toMatchObject({
        details: { scope: "project" },
      });
      const other = { ...request, scopes: request.scopes.slice(0, 1) };
      expect((await limiter.acquire(other)).requests?.remaining).toBe(8);
    });

    test("estimated tokens are corrected when the request is settled, once", async () => {
      const limiter = open({ ms: testTimeMs });
      const request = ask({ tokensPerMinute: 1000 }, { inputTokens: 100, outputTokensMax: 700 });
      const grant = await limiter.acquire(request);
      expect(grant.tokens?.remaining).toBe(200);
      await expect(limiter.acquire(request)).rejects.toMatchObject({
        retryAfterMs: 36_000,
        details: { kind: "tokens", limit: 1000, used: 800, requested: 800 },
      });
      await grant.settle(150);
      await grant.settle(0);
      await grant.cancel();
      const next = await limiter.acquire(request);
      expect(next.tokens?.remaining).toBe(50);
      await next.settle(undefined);
      await expect(limiter.acquire(request)).rejects.toMatchObject({ details: { used: 950 } });
    });

    test("more tokens than estimated are owed", async () => {
      const clock = { ms: testTimeMs };
      const limiter = open(clock);
      const request = ask({ tokensPerMinute: 60 }, { inputTokens: 10, outputTokensMax: 0 });
      await (await limiter.acquire(request)).settle(120);
      clock.ms += 60_000;
      await expect(limiter.acquire(request)).rejects.toMatchObject({ details: { used: 60 } });
      clock.ms += 10_000;
      await limiter.acquire(request);
    });

    test("a generous max_tokens waits for an empty bucket, an input that never fits is told so", async () => {
      const limiter = open({ ms: testTimeMs });
      const scope = { tokensPerMinute: 100 };
      await limiter.acquire(ask(scope, { inputTokens: 50, outputTokensMax: 100_000 }));
      await expect(
        limiter.acquire(ask(scope, { inputTokens: 101, outputTokensMax: 0 })),
      ).rejects.toMatchObject({ code: "rate_limit_exceeded", retryAfterMs: undefined });
    });

    test("places are given back when a request ends, is cancelled, or was forgotten", async () => {
      const clock = { ms: testTimeMs };
      const limiter = open(clock);
      const request = (id: string) => ({ ...ask({ concurrentRequests: 2 }), requestId: id });
      const first = await limiter.acquire(request("1"));
      const second = await limiter.acquire(request("2"));
      await expect(limiter.acquire(request("3"))).rejects.toMatchObject({
        retryAfterMs: 1000,
        details: { kind: "concurrent", limit: 2, used: 2 },
      });
      await first.settle(undefined);
      await limiter.acquire(request("3"));
      await second.cancel();
      await limiter.acquire(request("4"));
      clock.ms += placeTtlMs;
      await limiter.acquire(request("5"));
      await limiter.acquire(request("6"));
    });

    test("a cancelled request counts for nothing", async () => {
      const limiter = open({ ms: testTimeMs });
      const request = ask({ requestsPerMinute: 1, tokensPerMinute: 100 });
      await (await limiter.acquire(request)).cancel();
      expect((await limiter.acquire(request)).tokens?.remaining).toBe(90);
    });

    test("of many at once exactly as many pass as there is room for", async () => {
      const limiter = open({ ms: testTimeMs });
      const results = await Promise.allSettled(
        Array.from({ length: 200 }, (_, index) =>
          limiter.acquire({ ...ask({ requestsPerMinute: 70 }), requestId: String(index) }),
        ),
      );
      expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(70);
    });

    test("a day's limit drains over the day, and may have a burst of its own", async () => {
      const clock = { ms: testTimeMs };
      const limiter = open(clock);
      const daily = { kind: "requests", limit: 24, windowSeconds: 86_400, burst: 2 } as const;
      const request = ask({ rules: [limitRule.parse(daily)] });
      await limiter.acquire(request);
      expect((await limiter.acquire(request)).requests).toMatchObject({ limit: 24, remaining: 0 });
      await expect(limiter.acquire(request)).rejects.toMatchObject({
        message: expect.stringMatching(/requests per day \(RPD\): Limit 24, Used 2, Requested 1/),
        retryAfterMs: 3_600_000,
        details: { windowSeconds: 86_400, rule: "requests/86400s" },
      });
      clock.ms += 3_600_000;
      await limiter.acquire(request);
    });

    test("models and end users have buckets of their own, and both a pair's", async () => {
      const limiter = open({ ms: testTimeMs });
      const rules = [
        { kind: "requests", limit: 3, each: ["user"] },
        { kind: "requests", limit: 2, each: ["model", "user"] },
        { kind: "tokens", limit: 15, models: ["small"] },
      ].map((rule) => limitRule.parse(rule));
      const by = (endUser: string | undefined, model: string) =>
        limiter.acquire(ask({ rules }, { endUser, model, inputTokens: 5, outputTokensMax: 0 }));
      await by("ann", "large");
      await by("ann", "large");
      await expect(by("ann", "large")).rejects.toMatchObject({
        message: expect.stringContaining("for model 'large' for user 'ann' on requests per min"),
      });
      await by("ann", "small:adapter");
      await expect(by("ann", "small")).rejects.toMatchObject({ details: { limit: 3 } });
      await by("bob:1", "small");
      await by("bob", "small");
      await expect(by("eve", "small")).rejects.toMatchObject({ details: { kind: "tokens" } });
      // Whom nobody names has no limit of their own.
      for (let i = 0; i < 5; i++) await by(undefined, "large");
    });

    test("no window sees more than its limit and its burst, however requests come and clocks step", async () => {
      const arrival = fc.record({
        waitMs: fc.integer({ min: -5_000, max: 20_000 }),
        count: fc.integer({ min: 1, max: 8 }),
      });
      await fc.assert(
        fc.asyncProperty(
          fc.array(arrival, { minLength: 10, maxLength: 40 }),
          fc.integer({ min: 1, max: 9 }),
          fc.integer({ min: 1, max: 9 }),
          async (arrivals, limit, burst) => {
            const clock = { ms: testTimeMs };
            const limiter = open(clock);
            const windowSeconds = 30;
            const rule = limitRule.parse({ kind: "requests", limit, burst, windowSeconds });
            const request = ask({ rules: [rule] });
            const accepted: number[] = [];
            // A clock that is set back stands still for the bucket until it is where it was.
            let latestMs = clock.ms;
            for (const { waitMs, count } of arrivals) {
              clock.ms += waitMs;
              latestMs = Math.max(latestMs, clock.ms);
              for (let i = 0; i < count; i++) {
                const granted = await limiter.acquire(request).catch(() => undefined);
                if (granted) accepted.push(latestMs);
              }
            }
            for (const from of accepted) {
              const within = accepted.filter(
                (at) => at >= from && at < from + windowSeconds * 1000,
              );
              expect(within.length).toBeLessThanOrEqual(limit + burst);
            }
          },
        ),
        { numRuns: 40 },
      );
    });

    test("without limits nothing is refused and no header is made up", async () => {
      const grant = await open({ ms: testTimeMs }).acquire(ask({}));
      expect(rateLimitHeaders(grant)).toEqual({});
      await grant.settle(5);
    });
  });
}

/** What a limiter said, in a form that can be compared. */
async function outcome(
  limiter: RateLimiter,
  request: LimitRequest,
  end: "settle" | "cancel" | "never",
  used: number | undefined,
): Promise<unknown> {
  try {
    const grant = await limiter.acquire(request);
    if (end === "settle") await grant.settle(used);
    if (end === "cancel") await grant.cancel();
    return { requests: grant.requests, tokens: grant.tokens };
  } catch (error) {
    return error;
  }
}

let requests = 0;
function ask(
  key: RateLimits,
  tokens: Partial<LimitRequest> = {},
  project: RateLimits = {},
): LimitRequest {
  return {
    requestId: `request-${requests++}`,
    projectId: "p",
    scopes: [
      { type: "key", id: "k", limits: key },
      { type: "project", id: "p", limits: project },
    ],
    model: "gpt",
    endUser: undefined,
    inputTokens: 6,
    outputTokensMax: 4,
    ...tokens,
  };
}
