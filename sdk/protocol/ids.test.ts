import fc from "fast-check";
import { expect, test } from "vitest";
import { newId, projectId, requestId, sha256 } from "./ids.ts";

test("a new id has its prefix and is accepted by its schema alone", () => {
  const id = newId("proj");
  expect(projectId.parse(id)).toBe(id);
  expect(requestId.safeParse(id).success).toBe(false);
});

test("ids sort by the time of their creation", () => {
  const moment = fc.nat({ max: 2 ** 47 });
  fc.assert(
    fc.property(moment, moment, (a, b) => {
      fc.pre(a !== b);
      expect(newId("req", a) < newId("req", b)).toBe(a < b);
    }),
  );
});

test("time and random bits are all in the id, and nothing else", () => {
  const zero = newId("req", 0, (length) => new Uint8Array(length));
  expect(zero).toBe(`req_${"0".repeat(26)}`);
  const full = newId("req", 2 ** 48 - 1, (length) => new Uint8Array(length).fill(255));
  expect(full).toBe(`req_7${"z".repeat(25)}`);
});

test("ten thousand ids of one moment differ", () => {
  const ids = new Set(Array.from({ length: 10_000 }, () => newId("key", 1)));
  expect(ids.size).toBe(10_000);
});

test("an id or a digest that is not one is refused", () => {
  for (const text of [
    "",
    "proj_",
    "proj_short",
    `proj_${"i".repeat(26)}`,
    `PROJ_${"0".repeat(26)}`,
  ]) {
    expect(projectId.safeParse(text).success).toBe(false);
  }
  expect(sha256.safeParse("A".repeat(64)).success).toBe(false);
  expect(sha256.safeParse("a".repeat(64)).success).toBe(true);
});
