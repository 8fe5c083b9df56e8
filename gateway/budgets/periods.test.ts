import fc from "fast-check";
import { expect, test } from "vitest";
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { periodAt } from "./periods.ts";

test.each<[Budget["period"], string, string, string, string]>([
  [
    "day",
    "UTC",
    "2026-12-31T23:59:59.999Z",
    "2026-12-31T00:00:00.000Z",
    "2027-01-01T00:00:00.000Z",
  ],
  [
    "month",
    "UTC",
    "2026-12-31T23:59:59.999Z",
    "2026-12-01T00:00:00.000Z",
    "2027-01-01T00:00:00.000Z",
  ],
  [
    "quarter",
    "UTC",
    "2026-11-21T12:00:00Z",
    "2026-10-01T00:00:00.000Z",
    "2027-01-01T00:00:00.000Z",
  ],
  [
    "year",
    "Asia/Kolkata",
    "2026-12-31T18:29:59Z",
    "2025-12-31T18:30:00.000Z",
    "2026-12-31T18:30:00.000Z",
  ],
  // A Sunday evening in New York is Monday in UTC.
  [
    "week",
    "America/New_York",
    "2026-11-23T04:59:59Z",
    "2026-11-16T05:00:00.000Z",
    "2026-11-23T05:00:00.000Z",
  ],
  // The day of 23 hours, and that of 25.
  [
    "day",
    "Europe/Berlin",
    "2026-03-29T12:00:00Z",
    "2026-03-28T23:00:00.000Z",
    "2026-03-29T22:00:00.000Z",
  ],
  [
    "day",
    "Europe/Berlin",
    "2026-10-25T12:00:00Z",
    "2026-10-24T22:00:00.000Z",
    "2026-10-25T23:00:00.000Z",
  ],
  [
    "month",
    "Europe/Berlin",
    "2026-10-31T22:59:59Z",
    "2026-09-30T22:00:00.000Z",
    "2026-10-31T23:00:00.000Z",
  ],
  // Midnight is skipped in Beirut, and was twice in Sao Paulo: 2018-02-18 began when it was put back to 23:00.
  [
    "day",
    "Asia/Beirut",
    "2026-03-29T12:00:00Z",
    "2026-03-28T22:00:00.000Z",
    "2026-03-29T21:00:00.000Z",
  ],
  [
    "day",
    "America/Sao_Paulo",
    "2018-02-18T02:30:00Z",
    "2018-02-17T02:00:00.000Z",
    "2018-02-18T03:00:00.000Z",
  ],
  // Samoa had no 30 December 2011.
  [
    "day",
    "Pacific/Apia",
    "2011-12-30T12:00:00Z",
    "2011-12-30T10:00:00.000Z",
    "2011-12-31T10:00:00.000Z",
  ],
])("a %s in %s that holds %s", (period, timeZone, at, start, end) => {
  const { startMs, endMs } = periodAt({ limitUsd: "1", period, timeZone }, Date.parse(at));
  expect([startMs, endMs ?? 0].map((ms) => new Date(ms).toISOString())).toEqual([start, end]);
});

test("every so many days are counted from a date, before it too", () => {
  const budget: Budget = { limitUsd: "1", period: "custom", everyDays: 14, anchor: "2026-11-02" };
  const startAt = (at: string) =>
    new Date(periodAt(budget, Date.parse(at)).startMs).toISOString().slice(0, 10);
  expect(startAt("2026-11-15T23:59:59Z")).toBe("2026-11-02");
  expect(startAt("2026-11-16T00:00:00Z")).toBe("2026-11-16");
  expect(startAt("2026-11-01T00:00:00Z")).toBe("2026-10-19");
});

test("a total has neither beginning nor end", () => {
  expect(periodAt({ limitUsd: "1", period: "total" }, 5)).toEqual({ startMs: 0, endMs: undefined });
});

test("periods leave no gap and do not overlap, wherever clocks are changed", () => {
  const zone = fc.constantFrom(
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Africa/Casablanca",
  );
  const period = fc.constantFrom<Budget["period"]>(
    "day",
    "week",
    "month",
    "quarter",
    "year",
    "custom",
  );
  const atMs = fc.integer({ min: Date.UTC(1995, 0), max: Date.UTC(2037, 0) });
  fc.assert(
    fc.property(zone, period, atMs, (timeZone, length, at) => {
      const custom = length === "custom" && { everyDays: 10, anchor: "2026-01-01" };
      const budget: Budget = { limitUsd: "1", period: length, timeZone, ...custom };
      const { startMs, endMs = 0 } = periodAt(budget, at);
      expect(startMs).toBeLessThanOrEqual(at);
      expect(endMs).toBeGreaterThan(at);
      for (const [ms, same] of [
        [startMs, true],
        [endMs - 1, true],
        [startMs - 1, false],
        [endMs, false],
      ] as const) {
        const other = periodAt(budget, ms);
        if (same) expect(other).toEqual({ startMs, endMs });
        else expect([other.startMs, other.endMs]).toContain(ms === endMs ? endMs : startMs);
      }
    }),
    { numRuns: 1500 },
  );
});
