import fc from "fast-check";
import { expect, test } from "vitest";
import { readUsage, totalTokens } from "./usage.ts";

const counts = (prompt: number, completion: number, total = prompt + completion) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: total,
});

test("what a provider does not report stays unknown", () => {
  expect(readUsage(counts(10, 5))).toEqual({
    usage: { input: 10, output: 5 },
    inconsistent: false,
  });
  expect(
    readUsage({ ...counts(10, 5), prompt_tokens_details: { cached_tokens: 0 } }).usage,
  ).toEqual({ input: 10, cache_read: 0, output: 5 });
});

test("cached, written and reasoning tokens are taken out of their whole", () => {
  const usage = {
    ...counts(100, 50),
    prompt_tokens_details: { cached_tokens: 60, cache_write_tokens: 30 },
    completion_tokens_details: { reasoning_tokens: 40 },
  };
  expect(readUsage(usage)).toEqual({
    usage: { input: 10, cache_read: 60, cache_write: 30, output: 10, reasoning: 40 },
    inconsistent: false,
  });
});

test("reasoning that is counted beside the completion is not taken out of it", () => {
  const usage = { ...counts(10, 5, 35), completion_tokens_details: { reasoning_tokens: 20 } };
  expect(readUsage(usage)).toEqual({
    usage: { input: 10, output: 5, reasoning: 20 },
    inconsistent: false,
  });
});

test("numbers that contradict each other are clamped and flagged", () => {
  expect(readUsage({ ...counts(10, 5), prompt_tokens_details: { cached_tokens: 99 } })).toEqual({
    usage: { input: 0, cache_read: 10, output: 5 },
    inconsistent: true,
  });
  expect(readUsage(counts(10, 5, 99)).inconsistent).toBe(true);
});

test("no token is counted twice, none is negative, and none is lost", () => {
  const count = fc.integer({ min: -5, max: 50 });
  const natural = fc.nat({ max: 50 });
  fc.assert(
    fc.property(natural, natural, natural, count, count, count, (p, c, total, read, write, r) => {
      const { usage, inconsistent } = readUsage({
        ...counts(p, c, total),
        prompt_tokens_details: { cached_tokens: read, cache_write_tokens: write },
        completion_tokens_details: { reasoning_tokens: r },
      });
      expect(Math.min(...Object.values(usage))).toBeGreaterThanOrEqual(0);
      const beside = r > 0 && total === p + c + r ? r : 0;
      expect(totalTokens(usage)).toBe(p + c + beside);
      if (!inconsistent) expect(totalTokens(usage)).toBe(total);
    }),
  );
});
