import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { shareCorrect, wilsonInterval } from "./statistics.ts";

test("Wilson's interval equals published values", () => {
  // Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, method 3.
  const published: [number, number, number, number][] = [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ];
  for (const [correct, total, lower, upper] of published) {
    const interval = wilsonInterval(correct, total);
    expect(interval.lower).toBeCloseTo(lower, 4);
    expect(interval.upper).toBeCloseTo(upper, 4);
  }
});

const scores = new URL("../../shared/fixtures/tiny/scores.json", import.meta.url);
test.skipIf(!existsSync(scores))(
  "Wilson's interval equals what an independent script measured (needs shared/fixtures/tiny)",
  () => {
    const found = collect(JSON.parse(readFileSync(scores, "utf8")));
    expect(found.length).toBeGreaterThan(0);
    for (const { correct, n, low, high } of found) {
      const interval = wilsonInterval(correct, n);
      expect(interval.lower).toBeCloseTo(low, 3);
      expect(interval.upper).toBeCloseTo(high, 3);
    }
  },
);

test("an interval holds its share and narrows with more rows", () => {
  fc.assert(
    fc.property(fc.nat(2000), fc.integer({ min: 1, max: 2000 }), (a, b) => {
      const [correct, total] = [Math.min(a, b), b];
      const { lower, upper } = wilsonInterval(correct, total);
      const wide = upper - lower;
      const narrow = wilsonInterval(correct * 4, total * 4);
      expect(lower).toBeGreaterThanOrEqual(0);
      expect(upper).toBeLessThanOrEqual(1);
      expect(lower).toBeLessThanOrEqual(correct / total);
      expect(upper).toBeGreaterThanOrEqual(correct / total);
      expect(narrow.upper - narrow.lower).toBeLessThan(wide);
    }),
  );
});

test("errored rows widen the interval on both sides and leave the score of the judged rows", () => {
  const clean = shareCorrect({ correct: 80, judged: 100, errored: 0 });
  const troubled = shareCorrect({ correct: 80, judged: 100, errored: 10 });
  expect(clean).toEqual({ score: 0.8, ...wilsonInterval(80, 100) });
  expect(troubled.score).toBe(0.8);
  expect(troubled.lower).toBe(wilsonInterval(80, 110).lower);
  expect(troubled.upper).toBe(wilsonInterval(90, 110).upper);
});

type Measured = { correct: number; n: number; low: number; high: number };

function collect(node: unknown): Measured[] {
  if (typeof node !== "object" || node === null) return [];
  const { n, correct, wilson95 } = node as { n?: unknown; correct?: unknown; wilson95?: unknown };
  if (typeof n === "number" && typeof correct === "number" && Array.isArray(wilson95))
    return [{ correct, n, low: wilson95[0], high: wilson95[1] }];
  return Object.values(node).flatMap(collect);
}
