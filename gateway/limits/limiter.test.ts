import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { RateLimits } from "../../sdk/protocol/catalog.ts";
import { openTestRedis, testTimeMs } from "../metering/testing.ts";
import { formatGoDuration, rateLimitHeaders } from "./headers.ts";
import { createMemoryLimiter } from "./memory-limiter.ts";
import { createRedisLimiter } from "./redis-limiter.ts";
import type { LimitRequest, RateLimiter } from "./types.ts";

const redis = await openTestRedis();
afterAll(() => typeof redis !== "string" && redis.disconnect());

type Clock = { ms: number };
type Open = (clock: Clock) => RateLimiter;
const placeTtlMs = 30_000;
const inMemory: Open = (clock) => createMemoryLimiter({ now: () => clock.ms, placeTtlMs });
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
    inputTokens: 6,
    outputTokensMax: 4,
    ...tokens,
  };
}
