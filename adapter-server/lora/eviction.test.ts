import fc from "fast-check";
import { expect, test } from "vitest";
import { firstUse, use, worthOf } from "./eviction.ts";

const uses = fc.array(fc.nat(50), { minLength: 1, maxLength: 20 });
const usedAt = (gaps: number[]) => {
  let clock = 0;
  let record = firstUse(0);
  for (const gap of gaps) {
    clock += gap;
    record = use(record, clock);
  }
  return { record, clock };
};

test("worth falls as time passes, and rises with a use and with the cost", () => {
  fc.assert(
    fc.property(
      uses,
      fc.nat(500),
      fc.double({ min: 0.1, max: 1e6, noNaN: true }),
      (gaps, later, cost) => {
        const { record, clock } = usedAt(gaps);
        const now = clock + later;
        const worth = worthOf(record, { clock: now, cost });
        expect(worthOf(record, { clock: now + 1, cost })).toBeLessThan(worth);
        expect(worthOf(use(record, now), { clock: now, cost })).toBeGreaterThan(worth);
        expect(worthOf(record, { clock: now, cost: cost * 2 })).toBeGreaterThan(worth);
      },
    ),
  );
});

test("what was in great demand long ago does not outlive what is in some demand now", () => {
  const past = usedAt(new Array<number>(100).fill(1)).record;
  const present = usedAt([2000, 8]).record;
  const now = { clock: 2010, cost: 1 };
  expect(worthOf(past, now)).toBeLessThan(worthOf(present, now));
});
