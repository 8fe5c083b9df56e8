import fc from "fast-check";
import { expect, test } from "vitest";
import { readUsage, splitInput, splitOutput, totalTokens } from "./usage.ts";

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

test("audio in a chat is neither text nor cached text", () => {
  const usage = {
    ...counts(100, 50),
    prompt_tokens_details: { cached_tokens: 30, audio_tokens: 60 },
    completion_tokens_details: { audio_tokens: 45 },
  };
  expect(readUsage(usage)).toEqual({
    usage: { input: 10, cache_read: 30, input_audio: 60, output: 5, output_audio: 45 },
    inconsistent: false,
  });
});

test("whatever kinds are told, each token is counted once", () => {
  const count = fc.integer({ min: -5, max: 60 });
  const told = fc.option(count, { nil: undefined });
  fc.assert(
    fc.property(
      fc.nat({ max: 60 }),
      fc.record({ audio: count, image: count, cached: told, cachedAudio: told, cachedImage: told }),
      told,
      (whole, parts, reasoning) => {
        for (const { usage } of [
          splitInput(whole, parts),
          splitOutput(whole, { ...parts, reasoning }),
        ]) {
          expect(Math.min(...Object.values(usage))).toBeGreaterThanOrEqual(0);
          expect(totalTokens(usage)).toBe(whole);
        }
      },
    ),
  );
});

test("units are no tokens", () => {
  expect(totalTokens({ images: 2 })).toBeUndefined();
  expect(totalTokens({ input: 3, images: 2 })).toBe(3);
});
