import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { pairedDifference, shareCorrect, wilsonInterval } from "./statistics.ts";

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

test("the paired interval holds the true difference in at least 95 of 100 runs, counted over all outcomes", () => {
  const n = 40;
  const logFactorial = Array.from({ length: n + 1 }, () => 0);
  for (let i = 1; i <= n; i++) logFactorial[i] = logFactorial[i - 1]! + Math.log(i);
  const coverages = [
    [0.1, 0.1],
    [0.3, 0.1],
    [0.5, 0.05],
    [0.05, 0.02],
    [0.8, 0.01],
  ].map(([p = 0, q = 0]) => {
    let covered = 0;
    for (let gained = 0; gained <= n; gained++) {
      for (let lost = 0; gained + lost <= n; lost++) {
        const { lower, upper } = pairedDifference({ n, gained, lost });
        if (p - q < lower || p - q > upper) continue;
        const same = n - gained - lost;
        const ways =
          logFactorial[n]! - logFactorial[gained]! - logFactorial[lost]! - logFactorial[same]!;
        covered += Math.exp(
          ways + gained * Math.log(p) + lost * Math.log(q) + same * Math.log(1 - p - q),
        );
      }
    }
    return covered;
  });
  expect(coverages.reduce((sum, one) => sum + one, 0) / coverages.length).toBeGreaterThan(0.95);
  expect(Math.min(...coverages)).toBeGreaterThan(0.93);
});

test("the paired interval tells apart what two intervals of their own do not", () => {
  // 80 and 90 of 100 right, every row that the first has right is right for the second.
  expect(wilsonInterval(80, 100).upper).toBeGreaterThan(wilsonInterval(90, 100).lower);
  const { difference, lower, upper } = pairedDifference({ n: 100, gained: 10, lost: 0 });
  expect(difference).toBe(0.1);
  expect(lower).toBeGreaterThan(0.02);
  expect(upper).toBeLessThan(0.2);
});

type Measured = { correct: number; n: number; low: number; high: number };

function collect(node: unknown): Measured[] {
  if (typeof node !== "object" || node === null) return [];
  const { n, correct, wilson95 } = node as { n?: unknown; correct?: unknown; wilson95?: unknown };
  if (typeof n === "number" && typeof correct === "number" && Array.isArray(wilson95))
    return [{ correct, n, low: wilson95[0], high: wilson95[1] }];
  return Object.values(node).flatMap(collect);
}
