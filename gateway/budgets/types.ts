/** Budgets: money is reserved before a request and settled after it, in every scope or in none. */
import type { Budget } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { formatUsd, type PicoUsd } from "../../sdk/protocol/money.ts";
import { periodEnd } from "./periods.ts";

/** A project or one of its keys; `budget` absent means it may spend without bound. */
export type BudgetScope = { type: "project" | "key"; id: string; budget?: Budget };

export type BudgetRequest = {
  requestId: string;
  projectId: string;
  scopes: readonly BudgetScope[];
  /** The most that the request may cost; zero still needs a budget that is not used up. */
  amount: PicoUsd;
  /** Dates the spending: it counts in the day and month of this moment, whenever it is settled. */
  atMs: number;
};

export type BudgetLease = {
  /** Gives the reserved amount back and counts the cost, once; a second call changes nothing. */
  settle(cost: PicoUsd): Promise<void>;
};

/** What a scope has spent by the ledger, in the periods of one moment. */
export type Spending = {
  projectId: string;
  type: "project" | "key";
  id: string;
  atMs: number;
  spent: Readonly<Record<Budget["period"], PicoUsd>>;
};

export type BudgetStore = {
  /**
   * Reserves in every scope atomically. A reservation that nobody settles expires.
   * @throws HubError `insufficient_quota` naming scope, limit, spent, reserved and reset
   */
  reserve(request: BudgetRequest): Promise<BudgetLease>;
  /**
   * Raises what a scope has spent to what the ledger says, where that is more. The ledger lags behind
   * the store and holds nothing that the store was not told, unless the store lost something.
   */
  raise(spending: readonly Spending[]): Promise<void>;
};

/** The refusal, in words that say which budget, how much of it is gone, and when it comes back. */
export function budgetExceeded(facts: {
  scope: BudgetScope;
  budget: Budget;
  spent: PicoUsd;
  reserved: PicoUsd;
  amount: PicoUsd;
  atMs: number;
}): HubError {
  const { scope, budget, spent, reserved, amount, atMs } = facts;
  const end = periodEnd(budget.period, atMs);
  const resetAt = end === undefined ? undefined : new Date(end).toISOString();
  const period = budget.period === "total" ? "in total" : `per ${budget.period} (UTC)`;
  return new HubError(
    "insufficient_quota",
    `The budget of ${scope.type} '${scope.id}' is $${budget.limitUsd} ${period}: $${formatUsd(spent)} is spent, ` +
      `$${formatUsd(reserved)} is reserved by requests under way, and this request may cost up to $${formatUsd(amount)}. ` +
      `${resetAt === undefined ? "It does not reset" : `It resets at ${resetAt}`}; an administrator can raise it, ` +
      "or ask for fewer output tokens.",
    {
      details: {
        scope: scope.type,
        id: scope.id,
        period: budget.period,
        limitUsd: budget.limitUsd,
        spentUsd: formatUsd(spent),
        reservedUsd: formatUsd(reserved),
        requestedUsd: formatUsd(amount),
        resetAt: resetAt ?? null,
      },
    },
  );
}
