import { expect, test } from "vitest";
import { PromptPace } from "./prompt-pace.ts";

/** Calls that are as full as they may be, on a machine of the given speed. */
function paceOf(msPerToken: number, { msPerCall = 5, calls = 12, promptMsMax = 200 } = {}) {
  const pace = new PromptPace({ stepTokensMax: 512, promptMsMax });
  for (let call = 0; call < calls; call++) {
    pace.observe({ tokens: pace.tokensMax, ms: msPerCall + msPerToken * pace.tokensMax });
  }
  return pace.tokensMax;
}

test("a step has as many tokens of prompts as the machine computes in the time for them", () => {
  expect(paceOf(0.3)).toBe(512);
  expect(paceOf(0.75)).toBeGreaterThanOrEqual(255);
  expect(paceOf(0.75)).toBeLessThanOrEqual(260);
  expect(paceOf(2.6, { calls: 2 })).toBeLessThanOrEqual(77);
  expect(paceOf(2.6)).toBeGreaterThanOrEqual(70);
  expect(paceOf(1000)).toBe(32);
});

test("one moment in which the machine did something else is made up for", () => {
  const pace = new PromptPace({ stepTokensMax: 512, promptMsMax: 200 });
  pace.observe({ tokens: 512, ms: 4000 });
  expect(pace.tokensMax).toBe(32);
  for (let call = 0; call < 5; call++)
    pace.observe({ tokens: pace.tokensMax, ms: 0.3 * pace.tokensMax });
  expect(pace.tokensMax).toBe(512);
});

test("a call that was not half full makes the next ones no larger, and a slow one makes them smaller", () => {
  const pace = new PromptPace({ stepTokensMax: 512, promptMsMax: 200 });
  pace.observe({ tokens: 400, ms: 400 });
  expect(pace.tokensMax).toBe(200);
  pace.observe({ tokens: 20, ms: 1 });
  expect(pace.tokensMax).toBe(200);
  pace.observe({ tokens: 100, ms: 400 });
  expect(pace.tokensMax).toBe(50);
});

test("without a bound, or a clock that tells anything, nothing changes", () => {
  expect(paceOf(1000, { promptMsMax: 0 })).toBe(512);
  expect(paceOf(0, { msPerCall: 0 })).toBe(512);
  const absent = new PromptPace({ stepTokensMax: 512 });
  absent.observe({ tokens: 512, ms: 10_000 });
  expect(absent.tokensMax).toBe(512);
});
