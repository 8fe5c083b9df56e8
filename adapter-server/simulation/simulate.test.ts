/** The engine's scheduler under made-up load: the same answer for the same seed, and what the engine promises of waits. */
import { expect, test } from "vitest";
import type { SimulationOptions } from "./options.ts";
import { simulate } from "./simulate.ts";

const base: SimulationOptions = {
  ...{ seed: 1, seconds: 20, requestsPerSecond: 4, clients: 0, sharedTokens: 0, choices: 1 },
  promptTokens: { type: "uniform", from: 20, to: 200 },
  outputTokens: { type: "exponential", mean: 40 },
  ...{ adapters: 0, zipf: 1, tenants: 1, floodPerSecond: 0 },
  engine: {
    ...{ slots: 4, sequencesMax: 16, stepTokensMax: 256, prefillChunkMax: 128, promptMsMax: 200 },
    ...{ kvCacheTokens: 8192, waitingMax: 128, waitMsMax: 60_000 },
    ...{ slotWaitMsMax: 500, priorityAgeMs: 2000, prefixCache: true },
  },
  cost: { step: 8, row: 1, promptToken: 0.5, adapter: 1, load: 5 },
};

test("the same options give the same report, and another seed another", async () => {
  const options = { ...base, adapters: 20, tenants: 2 };
  const [first, again, other] = await Promise.all([
    simulate(options),
    simulate(options),
    simulate({ ...options, seed: 2 }),
  ]);
  expect(again).toEqual(first);
  expect(other.groups).not.toEqual(first.groups);
});

test("all that came ended or was refused, and the groups are parts of the whole", async () => {
  const report = await simulate({ ...base, adapters: 20, tenants: 3, requestsPerSecond: 30 });
  const [all, ...groups] = report.groups;
  expect(all?.name).toBe("all");
  expect(report.requests).toBeGreaterThan(300);
  const { server_is_overloaded: full = 0, rate_limit_exceeded: crowded = 0 } = report.refused;
  expect(full + crowded).toBe(all?.refused);
  expect(crowded).toBeGreaterThan(0);
  expect(all?.refused).toBeGreaterThan(0);
  const names = groups.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["tenant-1", "tenant-2", "tenant-3"]));
  const tenants = groups.filter(({ name }) => name.startsWith("tenant"));
  expect(tenants.reduce((sum, { requests }) => sum + requests, 0)).toBe(report.requests);
  const adapters = groups.filter(({ name }) => name.endsWith("adapters"));
  expect(adapters.reduce((sum, { requests }) => sum + requests, 0)).toBe(report.requests);
  expect(report.timeline.running).toHaveLength(60);
  expect(Math.max(...report.timeline.waiting)).toBeLessThanOrEqual(base.engine.waitingMax);
});

test("alone, a sequence's tokens come at the cost of a step and a row", async () => {
  const alone = { ...base, requestsPerSecond: 0.2, outputTokens: { type: "fixed", tokens: 10 } };
  const report = await simulate(alone);
  expect(report.groups[0]?.interTokenMs).toEqual({ p50: 9, p95: 9, p99: 9, max: 9 });
  expect(report.groups[0]?.waitMs?.max).toBeCloseTo(0);
});

test("choices share their prompt, and prompts their beginning", async () => {
  const one = await simulate(base);
  const three = await simulate({ ...base, choices: 3, requestsPerSecond: 1 });
  const shared = await simulate({ ...base, sharedTokens: 512 });
  expect(three.requests % 3).toBe(0);
  expect(one.prefixHitShare).toBe(0);
  expect(shared.prefixHitShare).toBeGreaterThan(0.5);
});

test("clients ask one after the other: as many wait or run as there are, and each choice counts", async () => {
  const report = await simulate({ ...base, clients: 6, choices: 2, tenants: 2, adapters: 3 });
  const together = report.timeline.running.map((running, part) => {
    return running + (report.timeline.waiting[part] ?? 0);
  });
  expect(Math.max(...together)).toBeLessThanOrEqual(12);
  expect(together[10]).toBeGreaterThan(6);
  expect(report.requests).toBeGreaterThan(24);
  expect(report.groups.map(({ name }) => name).sort()).toEqual(["all", "tenant-1", "tenant-2"]);
});

test("one tenant's flood is hardly felt by another, and refused for the most part", async () => {
  const quiet = { ...base, requestsPerSecond: 1, seconds: 20 };
  const alone = await simulate({ ...quiet, seed: 3 });
  const beside = await simulate({ ...quiet, seed: 3, floodPerSecond: 40 });
  const tenant = beside.groups.find(({ name }) => name === "tenant-1");
  const flooding = beside.groups.find(({ name }) => name === "flooding");
  expect(tenant?.refused).toBe(0);
  expect(flooding?.refused).toBeGreaterThan((flooding?.requests ?? 0) / 2);
  // It waits for a place among those that run, and shares the steps; never for the flood's queue.
  const places = base.engine.sequencesMax * base.cost.row + base.cost.step;
  expect(tenant?.waitMs?.p95).toBeLessThan(20 * places);
  expect(flooding?.waitMs?.p95).toBeGreaterThan(20 * places);
  expect(alone.groups[0]?.waitMs?.p95).toBeLessThan(50);
});

test("more adapters than slots take turns in them, and nobody is refused", async () => {
  const report = await simulate({ ...base, adapters: 40, zipf: 1.2, requestsPerSecond: 3 });
  expect(report.loads).toBeGreaterThan(base.engine.slots);
  expect(report.refused).toEqual({});
});

test("what cannot be is refused by the option's name", async () => {
  const engine = { ...base.engine, sequencesMax: 512 };
  await expect(simulate({ ...base, engine })).rejects.toMatchObject({
    code: "invalid_value",
    param: "engine.stepTokensMax",
  });
});
