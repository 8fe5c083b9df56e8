import { expect, test } from "vitest";
import { PromptLookup } from "./prompt-lookup.ts";

test("what followed the same tokens before is guessed, the longest likeness first", () => {
  const tokens = [1, 2, 3, 50, 51, 9, 9, 2, 3, 60, 61, 8, 1, 2, 3];
  expect(new PromptLookup().guess(tokens, 2)).toEqual([50, 51]);
  expect(new PromptLookup().guess([...tokens.slice(0, -3), 7, 2, 3], 2)).toEqual([60, 61]);
});

test("one token alone is no reason to guess", () => {
  expect(new PromptLookup().guess([1, 2, 3, 4, 9, 2], 4)).toEqual([]);
  expect(new PromptLookup().guess([1], 4)).toEqual([]);
  expect(new PromptLookup().guess([], 4)).toEqual([]);
});

test("what repeats itself is guessed to go on", () => {
  expect(new PromptLookup().guess([7, 8, 7, 8], 4)).toEqual([7, 8, 7, 8]);
  expect(new PromptLookup().guess([5, 5, 5], 3)).toEqual([5, 5, 5]);
});

test("a likeness of two tokens is trusted for six", () => {
  const tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1, 2];
  expect(new PromptLookup().guess(tokens, 100)).toEqual([3, 4, 5, 6, 7, 8]);
});

test("guesses grow while they hold, and shrink when they do not", () => {
  const lookup = new PromptLookup();
  const tokens = Array.from({ length: 60 }, (_, index) => index % 30);
  const length = tokens.length;
  expect(lookup.guess(tokens, 100)).toHaveLength(8);
  lookup.observe({ guessed: 8, held: 8, length });
  expect(lookup.guess(tokens, 100)).toHaveLength(15);
  expect(lookup.guess(tokens, 5)).toHaveLength(5);
  lookup.observe({ guessed: 15, held: 2, length });
  expect(lookup.guess(tokens, 100)).toHaveLength(7);
  lookup.observe({ guessed: 7, held: 1, length });
  lookup.observe({ guessed: 4, held: 1, length });
  expect(lookup.guess(tokens, 100)).toHaveLength(4);
});

test("who is never right is asked ever more rarely, and again at once when it was", () => {
  const lookup = new PromptLookup();
  const tokens: number[] = [1, 2, 3, 1, 2];
  const askedAt: number[] = [];
  while (tokens.length < 400) {
    const guessed = lookup.guess(tokens, 4).length;
    tokens.push(1000 + tokens.length, 1, 2);
    if (guessed === 0) continue;
    askedAt.push(tokens.length);
    lookup.observe({ guessed, held: 0, length: tokens.length });
  }
  expect(askedAt.length).toBeLessThan(12);
  lookup.observe({ guessed: 4, held: 1, length: tokens.length });
  expect(lookup.guess(tokens, 4).length).toBeGreaterThan(0);
});
