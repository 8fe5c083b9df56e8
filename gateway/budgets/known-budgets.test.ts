import { afterEach, expect, test, vi } from "vitest";
import { counterOf } from "./counters.ts";
import { createKnownBudgets } from "./known-budgets.ts";
import { createMemoryBudgets } from "./memory-budgets.ts";

afterEach(() => void vi.useRealTimers());

const counter = counterOf(
  { type: "key", id: "k", projectId: "p" },
  { limitUsd: "1", period: "total" },
  { user: undefined, model: undefined, atMs: 0 },
);
const request = {
  requestId: "r",
  holds: [{ counter, amount: 1n, models: new Set(["gpt"]) }],
};

test("a counter in use is compared with the ledger once in a while, however many requests use it", async () => {
  const { known, loads } = openKnown();
  await known.reserve(request);
  expect(loads).toEqual([counter.name]);
  for (let turn = 0; turn < 3; turn++) {
    await vi.advanceTimersByTimeAsync(60_000);
    for (let use = 0; use < 5; use++) await known.reserve(request);
    expect(vi.getTimerCount()).toBe(1);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(loads.splice(1)).toEqual([counter.name]);
    expect(vi.getTimerCount()).toBe(0);
  }
});

test("nothing is compared any more after the end", async () => {
  const { known, loads } = openKnown();
  await known.reserve(request);
  await vi.advanceTimersByTimeAsync(60_000);
  await known.reserve(request);
  known.close();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(loads).toEqual([counter.name]);
});

function openKnown() {
  vi.useFakeTimers();
  const loads: string[] = [];
  const known = createKnownBudgets({
    store: createMemoryBudgets({ now: Date.now, leaseTtlMs: 600_000, countersMax: 100 }),
    now: Date.now,
    async load(counters) {
      loads.push(...counters.map(({ name }) => name));
      return { spending: counters.map((of) => ({ counter: of, spent: 0n })), isWhole: true };
    },
    refreshEveryMs: 60_000,
    retryMs: 1_000,
    countersMax: 100,
    onRise() {},
    onError(error) {
      throw error;
    },
  });
  return { known, loads };
}
