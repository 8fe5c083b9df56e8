/** OpenAI's monthly spend limit of a project and of the organisation, which is their hard budget by month. */
import type { Budget, Organization, Project } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";

/** @throws HubError `not_found` where there is no such budget */
export function toSpendLimit<O extends "project" | "organization">(
  object: O,
  held: Pick<Project, "budget" | "budgets"> | Organization,
) {
  const limit = budgetsOf(held).find(isSpendLimit);
  if (limit === undefined) throw new HubError("not_found", `The ${object} has no budget by month.`);
  return {
    object: `${object}.spend_limit` as const,
    currency: "USD" as const,
    interval: "month" as const,
    // Where the budget is no whole number of cents this is a fraction, never another sum.
    threshold_amount: Number(parseUsd(limit.limitUsd)) / Number(picoUsdPerCent),
    enforcement: { status: "enforcing" as const },
  };
}

/**
 * The budgets with another spend limit, or without one; all others stay.
 * @param cents a whole number
 */
export function withSpendLimit(
  budgets: readonly Budget[] | undefined,
  cents: number | undefined,
): Budget[] {
  const others = (budgets ?? []).filter((it) => !isSpendLimit(it));
  if (cents === undefined) return others;
  const limitUsd = formatUsd(BigInt(cents) * picoUsdPerCent);
  const before = budgets?.find(isSpendLimit);
  return [...others, { ...before, limitUsd, period: "month" }];
}

/** By month in UTC, of everything, and refusing what is beyond it. */
export function isSpendLimit({
  period,
  timeZone = "UTC",
  hard = true,
  each,
  models,
}: Budget): boolean {
  return period === "month" && timeZone === "UTC" && hard && !each?.length && models === undefined;
}

function budgetsOf(held: Pick<Project, "budget" | "budgets"> | Organization): Budget[] {
  const single = "budget" in held ? held.budget : undefined;
  return [...(single ? [single] : []), ...(held.budgets ?? [])];
}

const picoUsdPerCent = 10_000_000_000n;
