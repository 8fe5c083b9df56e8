/** Budget periods in UTC: where one begins, where it ends, and what its counter is called. */
import type { Budget } from "../../sdk/protocol/catalog.ts";

export const budgetPeriods = ["day", "month", "total"] as const satisfies Budget["period"][];

/** The first millisecond of the period that holds `atMs`; `total` began in 1970. */
export function periodStart(period: Budget["period"], atMs: number): number {
  if (period === "total") return 0;
  if (period === "day") return Math.floor(atMs / dayMs) * dayMs;
  const date = new Date(atMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
}

/** The first millisecond of the next period; `undefined` for `total`, which has none. */
export function periodEnd(period: Budget["period"], atMs: number): number | undefined {
  if (period === "total") return undefined;
  if (period === "day") return periodStart("day", atMs) + dayMs;
  const date = new Date(atMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

const dayMs = 86_400_000;
