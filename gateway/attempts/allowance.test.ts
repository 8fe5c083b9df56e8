import fc from "fast-check";
import { expect, test } from "vitest";
import { Allowance } from "./allowance.ts";

test("extra work is never more than its share of the ordinary, and what was there at the start", () => {
  const step = fc.oneof(
    fc.record({ earn: fc.double({ min: 0, max: 100, noNaN: true }) }),
    fc.record({ spend: fc.double({ min: 0, max: 100, noNaN: true }) }),
  );
  fc.assert(
    fc.property(
      fc.array(step),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 1, max: 50 }),
      (steps, share, reserve) => {
        const allowance = new Allowance({ share, reserve });
        let earned = 0;
        let spent = 0;
        for (const it of steps) {
          if ("earn" in it) {
            allowance.earn(it.earn);
            earned += it.earn;
          } else if (allowance.spend(it.spend)) spent += it.spend;
          expect(spent).toBeLessThanOrEqual(reserve + share * earned + 1e-6);
        }
      },
    ),
  );
});

test("an outage lets one of five requests be sent again, however many there are", () => {
  const allowance = new Allowance({ share: 0.2, reserve: 20 });
  let retries = 0;
  for (let request = 0; request < 1000; request++) {
    allowance.earn(1);
    for (let retry = 0; retry < 2; retry++) if (allowance.spend(1)) retries++;
  }
  expect(retries).toBeGreaterThanOrEqual(200);
  expect(retries).toBeLessThanOrEqual(220);
});
