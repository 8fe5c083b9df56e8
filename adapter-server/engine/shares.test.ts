/** What each tenant has of a step while several run. */
import { expect, test } from "vitest";
import type { Sequence } from "./sequence.ts";
import { RecentTenants, sharesOf, slackTokens, withinShares } from "./shares.ts";

const rows = (tenant: string, count: number, steppedAt = 0) =>
  Array.from({ length: count }, () => ({ tenant, steppedAt }) as Sequence);
const level = () => 0;
const bounds = { rowsMax: 32, isAwaited: () => false, isOpenToCrowds: () => true };
const countOf = (chosen: readonly Sequence[], tenant: string) =>
  chosen.filter((sequence) => sequence.tenant === tenant).length;

test("alone, a tenant has all rows, however many it runs", () => {
  const running = rows("a", 32);
  expect(withinShares(running, sharesOf(running, level), bounds)).toEqual(running);
});

test("beside others a crowd has as many rows as the largest of them, and at least two", () => {
  const few = [...rows("flood", 30), ...rows("single", 1)];
  const beside = withinShares(few, sharesOf(few, level), bounds);
  expect([countOf(beside, "flood"), countOf(beside, "single")]).toEqual([2, 1]);
  const many = [...rows("flood", 20), ...rows("b", 6), ...rows("c", 3)];
  const shared = withinShares(many, sharesOf(many, level), bounds);
  expect(["flood", "b", "c"].map((tenant) => countOf(shared, tenant))).toEqual([6, 6, 3]);
});

test("a crowd that was given much less than the others is none", () => {
  const running = [...rows("late", 6), ...rows("served", 2)];
  const servedOf = (tenant: string) => (tenant === "served" ? slackTokens + 1 : 0);
  expect(withinShares(running, sharesOf(running, servedOf), bounds)).toHaveLength(8);
});

test("what a tenant is given in a step makes it no crowd in that step", () => {
  const running = [...rows("late", 6), ...rows("served", 2)];
  let given = 0;
  const shares = sharesOf(running, (tenant) => (tenant === "served" ? slackTokens + 1 : given));
  expect(shares.isCrowding("late")).toBe(false);
  given = 1000;
  expect(shares.isCrowding("late")).toBe(false);
});

test("of a crowd's sequences those decode that have waited longest, and those whose end is awaited", () => {
  const [awaited] = rows("flood", 1, 9);
  const waited = rows("flood", 2, 1);
  const running = [...rows("flood", 8, 5), ...waited, awaited!, ...rows("single", 1)];
  const chosen = withinShares(running, sharesOf(running, level), {
    ...bounds,
    isAwaited: (sequence) => sequence === awaited,
  });
  expect(chosen).toEqual([...waited, awaited, running.at(-1)]);
});

test("a tenant lacks places only beside others, and up to an equal part", () => {
  const shares = sharesOf([...rows("a", 30), ...rows("b", 2)], level);
  expect(shares.lacks("b", 32)).toBe(14);
  expect(shares.lacks("new", 33)).toBe(11);
  expect(shares.lacks("a", 32)).toBe(0);
  expect(sharesOf(rows("a", 3), level).lacks("a", 32)).toBe(0);
});

test("who was here a moment ago counts as present, and for a moment only", () => {
  const recent = new RecentTenants();
  recent.see("single", 0);
  recent.see("flood", 0);
  const chosenAt = (nowMs: number) => {
    const running = rows("flood", 30);
    recent.see("flood", nowMs);
    return withinShares(running, sharesOf(running, level, { expected: recent.at(nowMs) }), bounds)
      .length;
  };
  expect([chosenAt(0), chosenAt(100), chosenAt(101), chosenAt(102)]).toEqual([2, 2, 30, 30]);
  recent.see("single", 103);
  expect(chosenAt(104)).toBe(2);
  expect([...recent.at(1000)]).toEqual([]);
});

test("a tenant that is expected lacks what one that nobody knows of would", () => {
  const shares = sharesOf(rows("a", 30), level, { expected: ["new"] });
  expect([shares.lacks("new", 32), shares.lacks("another", 33)]).toEqual([16, 11]);
});
