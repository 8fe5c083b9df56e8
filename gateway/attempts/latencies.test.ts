import { expect, test } from "vitest";
import { Latencies } from "./latencies.ts";

test("nothing is told of what was hardly seen, then what 19 of 20 took lately", () => {
  const latencies = new Latencies();
  for (let ms = 1; ms <= 19; ms++) latencies.observe("m", ms);
  expect(latencies.quantile("m", 0.95)).toBeUndefined();
  for (let ms = 20; ms <= 100; ms++) latencies.observe("m", ms);
  expect(latencies.quantile("m", 0.95)).toBe(96);
  for (let i = 0; i < 200; i++) latencies.observe("m", 7);
  expect(latencies.quantile("m", 0.95)).toBe(7);
  expect(latencies.quantile("another", 0.95)).toBeUndefined();
});

test("of very many kinds, those that were not seen for long are forgotten", () => {
  const latencies = new Latencies();
  const seenOften = (kind: string) => {
    for (let i = 0; i < 20; i++) latencies.observe(kind, 1);
  };
  seenOften("old");
  for (let kind = 0; kind < 511; kind++) latencies.observe(`model-${kind}`, 1);
  expect(latencies.quantile("old", 0.95)).toBe(1);
  latencies.observe("one-more", 1);
  expect(latencies.quantile("old", 0.95)).toBeUndefined();
});
