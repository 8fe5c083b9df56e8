import fc from "fast-check";
import { expect, test } from "vitest";
import { type Balanced, balances, choose, chooseByKey } from "./balance.ts";

const deployment = (name: string, more: Partial<Balanced> = {}): Balanced => ({
  name,
  weight: 1,
  inFlight: 0,
  latencyMs: 100,
  ...more,
});
/** Every draw from 0 to 1 in equal steps. */
const draws = (count: number) => Array.from({ length: count }, (_, index) => (index + 0.5) / count);

test("weights are shares of the calls", () => {
  const among = [deployment("a", { weight: 3 }), deployment("b")];
  const chosen = draws(100).map((draw) => choose(among, "weighted", () => draw)?.name);
  expect(chosen.filter((name) => name === "a")).toHaveLength(75);
});

test("the least busy for its weight is taken", () => {
  const among = [
    deployment("a", { inFlight: 3 }),
    deployment("b", { inFlight: 5, weight: 10 }),
    deployment("c", { inFlight: 1 }),
  ];
  for (const draw of draws(5)) expect(choose(among, "least-busy", () => draw)?.name).toBe("b");
});

test("of two that are drawn, the one that is expected to begin sooner is taken", () => {
  const among = [
    deployment("slow", { latencyMs: 900 }),
    deployment("crowded", { latencyMs: 50, inFlight: 30 }),
    deployment("quick", { latencyMs: 50, inFlight: 1 }),
  ];
  const chosen = draws(30).map((draw) => choose(among, "peak-ewma", () => draw)?.name);
  // The slowest of all is never the better of two.
  expect(new Set(chosen)).toEqual(
    new Set(["quick", "slow"].filter((name) => chosen.includes(name))),
  );
  expect(chosen.filter((name) => name === "crowded")).toHaveLength(0);
});

test("one that was never asked is asked once, and not by everyone", () => {
  const among = [deployment("known"), deployment("new", { latencyMs: undefined })];
  expect(choose(among, "peak-ewma", () => 0.1)?.name).toBe("new");
  const busy = [deployment("known"), deployment("new", { latencyMs: undefined, inFlight: 1 })];
  expect(choose(busy, "peak-ewma", () => 0.1)?.name).toBe("known");
});

test("any rule takes one of those that there are, and none of none", () => {
  const balanced = fc.record({
    name: fc.string(),
    weight: fc.double({ min: 0.001, max: 1000, noNaN: true }),
    inFlight: fc.nat(1000),
    latencyMs: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true }), { nil: undefined }),
  });
  fc.assert(
    fc.property(
      fc.array(balanced),
      fc.constantFrom(...balances),
      fc.double({ min: 0, max: 0.999999, noNaN: true }),
      (among, balance, draw) => {
        const chosen = choose(among, balance, () => draw);
        if (among.length === 0) expect(chosen).toBeUndefined();
        else expect(among).toContain(chosen);
        const own = chooseByKey(among, "key");
        if (among.length > 0) expect(among).toContain(own);
      },
    ),
  );
});

test("a key stays where it is when others come and go, and weights share the keys out", () => {
  const all = ["a", "b", "c", "d"].map((name) =>
    deployment(name, { weight: name === "d" ? 5 : 1 }),
  );
  const keys = Array.from({ length: 2000 }, (_, index) => `conversation-${index}`);
  const before = keys.map((key) => chooseByKey(all, key)?.name);
  const after = keys.map((key) => chooseByKey(all.slice(1), key)?.name);
  for (const [index, name] of before.entries()) if (name !== "a") expect(after[index]).toBe(name);
  const onD = before.filter((name) => name === "d").length / keys.length;
  expect(Math.abs(onD - 5 / 8)).toBeLessThan(0.05);
});

test("a key moves on while its own place has more than its share", () => {
  const all = ["a", "b", "c"].map((name) => deployment(name));
  const own = chooseByKey(all, "key")?.name;
  const busy = all.map((it) => (it.name === own ? { ...it, inFlight: 9 } : it));
  expect(chooseByKey(busy, "key")?.name).not.toBe(own);
});
