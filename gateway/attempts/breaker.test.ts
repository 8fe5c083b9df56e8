import fc from "fast-check";
import { expect, test } from "vitest";
import { Breaker } from "./breaker.ts";

function openBreaker() {
  const clock = { ms: 0 };
  const options = { failures: 3, openMs: 100, openMsMax: 400, now: () => clock.ms };
  return { clock, breaker: new Breaker(options) };
}

test("it opens after failures in a row, and a success between them starts the count anew", () => {
  const { breaker } = openBreaker();
  for (let i = 0; i < 10; i++) {
    breaker.fail();
    breaker.fail();
    breaker.succeed();
  }
  expect(breaker.state).toBe("closed");
  for (let i = 0; i < 3; i++) breaker.fail();
  expect(breaker.state).toBe("open");
  expect(breaker.enter()).toBe(false);
  expect(breaker.retryAfterMs()).toBe(100);
});

test("after its time one call finds out, and the others wait for what becomes of it", () => {
  const { breaker, clock } = openBreaker();
  for (let i = 0; i < 3; i++) breaker.fail();
  clock.ms = 100;
  expect(breaker.state).toBe("half-open");
  expect([breaker.enter(), breaker.enter(), breaker.enter()]).toEqual([true, false, false]);
  breaker.succeed();
  expect(breaker.state).toBe("closed");
  expect(breaker.enter()).toBe(true);
});

test("each failed probe doubles the wait up to its most; a success puts it back", () => {
  const { breaker, clock } = openBreaker();
  for (let i = 0; i < 3; i++) breaker.fail();
  for (const wait of [200, 400, 400]) {
    clock.ms += breaker.retryAfterMs() ?? 0;
    expect(breaker.enter()).toBe(true);
    breaker.fail();
    expect(breaker.retryAfterMs()).toBe(wait);
  }
  clock.ms += 400;
  breaker.enter();
  breaker.succeed();
  for (let i = 0; i < 3; i++) breaker.fail();
  expect(breaker.retryAfterMs()).toBe(100);
});

test("a probe whose client leaves makes room for the next", () => {
  const { breaker, clock } = openBreaker();
  for (let i = 0; i < 3; i++) breaker.fail();
  clock.ms = 100;
  expect(breaker.enter()).toBe(true);
  breaker.abandon();
  expect(breaker.enter()).toBe(true);
});

test("whatever happens, it lets a call through again once the upstream is well", () => {
  const step = fc.constantFrom("enter", "fail", "succeed", "abandon", "wait");
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { breaker, clock } = openBreaker();
      let entered = 0;
      for (const it of steps) {
        if (it === "wait") clock.ms += 150;
        else if (it === "enter") entered += breaker.enter() ? 1 : 0;
        else if (entered > 0) {
          entered--;
          breaker[it]();
        }
      }
      while (entered-- > 0) breaker.abandon();
      clock.ms += 400;
      expect(breaker.enter()).toBe(true);
      breaker.succeed();
      expect(breaker.state).toBe("closed");
    }),
  );
});
