import { expect, test } from "vitest";
import { rateWhileAllDecode } from "./window.ts";

test("one sequence decodes at the rate of its tokens after the first", () => {
  expect(rateWhileAllDecode([[1000, 1100, 1200, 1300]])).toBeCloseTo(10);
});

test("prompts that are read one after the other, and those that end later, are left out", () => {
  const early = [0, 500, 1000, 1100, 1200];
  const late = [1000, 1100, 1200, 1300, 1400];
  // Between 1000 and 1200 both take two steps.
  expect(rateWhileAllDecode([early, late])).toBeCloseTo(20);
});

test("tokens of one step that come a little apart are one step", () => {
  const first = [0, 100, 200];
  const second = [0.2, 100.2, 200.2];
  expect(rateWhileAllDecode([first, second])).toBeCloseTo((2 * 2 * 1000) / 199.8);
});
