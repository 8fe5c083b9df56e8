import { expect, test } from "vitest";
import { CrowdCredit } from "./crowd-credit.ts";

/** A machine on which a call takes 10 ms and 2 ms a row, and a token of a prompt 1 ms. */
function measured(): CrowdCredit {
  const credit = new CrowdCredit();
  for (const tokens of [1, 2, 4, 8]) credit.observeDecode({ tokens, ms: 10 + 2 * tokens });
  credit.observePrompts({ tokens: 64, ms: 64 });
  return credit;
}

test.each([1 / 3, 1])("a crowd's rows add %f of what those of others take", (share) => {
  const credit = measured();
  let others = 0;
  let crowd = 0;
  for (let step = 0; step < 1000; step++) {
    credit.begin(share);
    credit.earnRows(2);
    others += 14;
    if (!credit.isGood) continue;
    // Three rows were never seen: what they take lies between two and four.
    credit.payRows(1, 5);
    crowd += 10;
  }
  expect(crowd / others).toBeGreaterThan(0.95 * Math.min(share, 10 / 14));
  expect(crowd / others).toBeLessThan(1.05 * Math.min(share, 10 / 14));
});

test("a prompt of a crowd is owed, and waited for", () => {
  const credit = measured();
  credit.begin(1 / 3);
  credit.earnRows(1);
  credit.payPrompt(64);
  let steps = 0;
  while (!credit.isGood) {
    credit.earnRows(1);
    steps++;
  }
  // 64 ms at a third of 12 ms a step.
  expect(steps).toBe(15);
});

test("prompts of others earn as well, so that a crowd beside them gets on", () => {
  const credit = measured();
  credit.begin(1 / 3);
  credit.payPrompt(64);
  expect(credit.isGood).toBe(false);
  credit.earnPrompt(192);
  expect(credit.isGood).toBe(true);
});

test("where nothing was measured nothing is owed", () => {
  const credit = new CrowdCredit();
  credit.begin(1 / 3);
  credit.payRows(1, 30);
  credit.payPrompt(1000);
  expect(credit.isGood).toBe(true);
});
