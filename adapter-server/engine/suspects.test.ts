import { expect, test } from "vitest";
import { Suspects } from "./suspects.ts";

const [a, b] = [{ prompt: [1, 2] }, { prompt: [1, 2], adapter: "x" }];

test("who was in a call that killed is computed apart, and cleared when it ends well", () => {
  const suspects = new Suspects();
  expect(suspects.isAccused(a)).toBe(false);
  suspects.accuse([a, b]);
  expect([suspects.isAccused(a), suspects.isAccused(b)]).toEqual([true, true]);
  suspects.clear(a);
  expect([suspects.isAccused(a), suspects.isAccused(b)]).toEqual([false, true]);
});

test("only who is alone in the call at a second death is refused, without a wish to try again", () => {
  const suspects = new Suspects();
  suspects.accuse([a, b]);
  suspects.accuse([a, b]);
  expect(suspects.isAccused(a)).toBe(true);
  suspects.accuse([b]);
  expect(() => suspects.isAccused(b)).toThrow(
    expect.objectContaining({ code: "request_quarantined" }),
  );
  expect(suspects.isAccused(a)).toBe(true);
});

test("the same request twice in one call is one suspect, and one death is no proof", () => {
  const suspects = new Suspects();
  suspects.accuse([a, { ...a }]);
  expect(suspects.isAccused(a)).toBe(true);
});

test("a death outside of any call accuses nobody", () => {
  const suspects = new Suspects();
  suspects.accuse([]);
  expect(suspects.isAccused(a)).toBe(false);
});
