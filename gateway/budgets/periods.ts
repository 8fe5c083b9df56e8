/** The periods of budgets by the calendar of a time zone, exact where its clocks are changed. */
import type { Budget } from "../../sdk/protocol/catalog.ts";

/** Milliseconds since 1970; it holds its start and not its end. `total` has no end. */
export type Period = { startMs: number; endMs: number | undefined };

/** The period that holds a moment. */
export function periodAt(budget: Budget, atMs: number): Period {
  if (budget.period === "total") return { startMs: 0, endMs: undefined };
  const { timeZone = "UTC" } = budget;
  let [first, next] = daysOf(budget, localDay(atMs, timeZone));
  // Where clocks are put back over midnight a date is there twice; its period begins but once.
  if (atMs < startOfDay(first, timeZone)) [first, next] = daysOf(budget, first - 1);
  else if (atMs >= startOfDay(next, timeZone)) [first, next] = daysOf(budget, next);
  return { startMs: startOfDay(first, timeZone), endMs: startOfDay(next, timeZone) };
}

/** First day of the period that holds a day, and of the next; days are counted from 1970-01-01. */
function daysOf(
  { period, everyDays = 1, anchor = "1970-01-01" }: Budget,
  day: number,
): [number, number] {
  const date = new Date(day * dayMs);
  const year = date.getUTCFullYear();
  const month = date.getUTCMonth();
  switch (period) {
    case "day":
      return [day, day + 1];
    case "week": {
      // The first of January 1970 was a Thursday.
      const monday = day - remainder(day + 3, 7);
      return [monday, monday + 7];
    }
    case "month":
      return [dayOf(year, month), dayOf(year, month + 1)];
    case "quarter": {
      const first = month - (month % 3);
      return [dayOf(year, first), dayOf(year, first + 3)];
    }
    case "year":
      return [dayOf(year, 0), dayOf(year + 1, 0)];
    case "custom": {
      const first = day - remainder(day - Date.parse(anchor) / dayMs, everyDays);
      return [first, first + everyDays];
    }
    case "total":
      throw new Error("`total` has no days");
    default:
      return period satisfies never;
  }
}

/** The first moment of a day: its midnight, the earlier of two, or where it is skipped what comes in its place. */
function startOfDay(day: number, timeZone: string): number {
  const midnightMs = day * dayMs;
  if (timeZone === "UTC") return midnightMs;
  const [before, after] = [midnightMs - dayMs, midnightMs + dayMs].map(
    (ms) => midnightMs - offsetMs(ms, timeZone),
  );
  const found = [before, after]
    .filter((ms): ms is number => ms !== undefined && ms + offsetMs(ms, timeZone) === midnightMs)
    .sort((a, b) => a - b);
  if (found[0] !== undefined) return found[0];
  // Clocks were put forward over it: the change lies between the two, and local time is later from then on.
  let [early, late] = [Math.min(before ?? 0, after ?? 0), Math.max(before ?? 0, after ?? 0)];
  while (late - early > 1) {
    const middle = Math.floor((early + late) / 2);
    if (middle + offsetMs(middle, timeZone) < midnightMs) early = middle;
    else late = middle;
  }
  return late;
}

function localDay(atMs: number, timeZone: string): number {
  return Math.floor((atMs + (timeZone === "UTC" ? 0 : offsetMs(atMs, timeZone))) / dayMs);
}

/** How far a zone's clocks are ahead of UTC. */
function offsetMs(atMs: number, timeZone: string): number {
  let format = formats.get(timeZone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone,
      calendar: "gregory",
      numberingSystem: "latn",
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formats.set(timeZone, format);
  }
  const parts = new Map(format.formatToParts(atMs).map(({ type, value }) => [type, Number(value)]));
  const part = (type: Intl.DateTimeFormatPartTypes) => parts.get(type) ?? 0;
  const local = Date.UTC(
    part("year"),
    part("month") - 1,
    part("day"),
    part("hour"),
    part("minute"),
    part("second"),
  );
  return local - Math.floor(atMs / 1000) * 1000;
}

const dayOf = (year: number, month: number): number => Date.UTC(year, month) / dayMs;
const remainder = (value: number, by: number): number => ((value % by) + by) % by;
/** As many as there are time zones in policy, which names each by one of a fixed list. */
const formats = new Map<string, Intl.DateTimeFormat>();
const dayMs = 86_400_000;
