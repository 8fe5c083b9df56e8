import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { PartCounter, PartHistogram } from "./histogram.ts";
import { Timings } from "./timings.ts";

test("each part takes what passed since the one before it, and waiting for models is nobody's overhead", () => {
  let now = 100;
  const after = (ms: number) => {
    now += ms;
  };
  const timings = new Timings(() => now);
  after(1);
  timings.ended("identify");
  after(2);
  timings.ended("parse");
  after(50);
  timings.skip();
  after(0.5);
  timings.ended("plan");
  after(0.25);
  timings.ended("reserve");
  timings.translating(() => after(3));
  after(200);
  expect(() =>
    timings.translating(() => {
      after(1);
      throw new Error("no answer");
    }),
  ).toThrow("no answer");
  timings.attempted();
  after(4);
  timings.skip();
  after(0.125);
  timings.ended("settle");
  expect(timings.toRow()).toEqual({
    identify: 1,
    parse: 2,
    plan: 0.5,
    reserve: 0.25,
    translate: 4,
    upstream: 200,
    overhead: 7.75,
  });
  expect(timings.overheadMs).toBe(7.875);
});

test("a histogram is told as Prometheus reads it: counts up to each bound, their sum and number", async () => {
  const registry = new Registry();
  const histogram = new PartHistogram({
    name: "part_seconds",
    help: "By part.",
    labels: ["part"],
    buckets: [0.5, 1],
    registers: [registry],
  });
  for (const seconds of [0.5, 0.75, 3]) histogram.observe(seconds, "plan");
  histogram.observe(0.25, "parse");
  expect((await registry.metrics()).trim().split("\n")).toEqual([
    "# HELP part_seconds By part.",
    "# TYPE part_seconds histogram",
    'part_seconds_bucket{le="0.5",part="plan"} 1',
    'part_seconds_bucket{le="1",part="plan"} 2',
    'part_seconds_bucket{le="+Inf",part="plan"} 3',
    'part_seconds_sum{part="plan"} 4.25',
    'part_seconds_count{part="plan"} 3',
    'part_seconds_bucket{le="0.5",part="parse"} 1',
    'part_seconds_bucket{le="1",part="parse"} 1',
    'part_seconds_bucket{le="+Inf",part="parse"} 1',
    'part_seconds_sum{part="parse"} 0.25',
    'part_seconds_count{part="parse"} 1',
  ]);
});

test("a counter counts each combination of its labels, and one without labels is told from the start", async () => {
  const registry = new Registry();
  const requests = new PartCounter({
    name: "requests_total",
    help: "By model and status.",
    labels: ["model", "status"],
    registers: [registry],
  });
  new PartCounter({ name: "open", help: "Now.", type: "gauge", registers: [registry] }).add(0);
  requests.add(1, "a", "200");
  requests.add(2, "a", "429");
  requests.add(1, "b", "200");
  requests.add(1, "a", "200");
  expect((await registry.metrics()).trim().split("\n")).toEqual([
    "# HELP requests_total By model and status.",
    "# TYPE requests_total counter",
    'requests_total{model="a",status="200"} 2',
    'requests_total{model="a",status="429"} 2',
    'requests_total{model="b",status="200"} 1',
    "",
    "# HELP open Now.",
    "# TYPE open gauge",
    "open 0",
  ]);
});
