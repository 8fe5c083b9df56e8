/** Budgets: money is reserved before a request and settled after it, in every scope or in none. */
import type { Budget, SpendAlert } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { formatUsd, type PicoUsd } from "../../sdk/protocol/money.ts";
import type { Period } from "./periods.ts";

/** Whose budgets a request falls under; each of them all at once. */
export type BudgetScope = {
  type: "organization" | "project" | "key";
  id: string;
  /** The project, or that of the key; absent for the organisation. */
  projectId: string | undefined;
  budgets: readonly Budget[];
  /** Told when a month's spending reaches them. */
  spendAlerts?: readonly SpendAlert[] | undefined;
};

/** What one budget counts in one period, for one model or end user where each has its own. */
export type Counter = Period & {
  /** Unique among all counters; the same in every process. */
  name: string;
  scope: Omit<BudgetScope, "budgets" | "spendAlerts">;
  budget: Budget;
  /** Of a month in UTC: what else is told of it beside the budget's own shares. */
  spendAlerts?: readonly SpendAlert[];
  limit: PicoUsd;
  user: string | undefined;
  /** `base` or `base:adapter`. */
  model: string | undefined;
};

/** What a request may cost at most in one counter; zero still needs a budget that is not used up. */
export type Hold = { counter: Counter; amount: PicoUsd; models: ReadonlySet<string> };

export type BudgetRequest = { requestId: string; holds: readonly Hold[] };

/** How a counter's spending rose; equal where it did not. */
export type Rise = { counter: Counter; before: PicoUsd; after: PicoUsd };

export type BudgetLease = {
  /**
   * Gives the reserved amounts back and counts the cost where the model falls under the budget, once; a second call
   * changes nothing, and one after a failure counts only what the store had not heard.
   */
  settle(spent: Spent): Promise<Rise[]>;
};

/** What a request cost, and which model answered, as `base` or `base:adapter`. */
export type Spent = {
  cost: PicoUsd;
  model: string | undefined;
  /** What calls without an answer cost: the organisation's budgets count them, for nobody else asked for them. */
  overheads?: readonly { cost: PicoUsd; model: string }[];
};

/** What a counter's period has spent by the ledger. */
export type Spending = { counter: Counter; spent: PicoUsd };

export type BudgetStore = {
  /**
   * Reserves in every counter atomically. A reservation that nobody settles expires.
   * @returns the counters that the store does not know, and then nothing is reserved: they are to be raised first
   * @throws HubError `insufficient_quota` naming scope, limit, spent, reserved and reset
   */
  reserve(request: BudgetRequest): Promise<BudgetLease | { unknown: readonly Counter[] }>;
  /**
   * Raises what a counter has spent to what the ledger says, where that is more, and makes it known. The ledger lags
   * behind the store and holds nothing that the store was not told, unless the store lost something or was away. Who is
   * away tells it later: of that only what is beyond such a raise is counted then.
   */
  raise(spending: readonly Spending[]): Promise<Rise[]>;
  /** What is spent and held now; `undefined` for counters that the store does not know. */
  read(counters: readonly Counter[]): Promise<(Figures | undefined)[]>;
};

export type Figures = { spent: PicoUsd; held: PicoUsd };

/** A store that several processes share, and in which each may hold money ahead of its requests. */
export type SharedBudgets = Omit<BudgetStore, "reserve"> & {
  /** @returns `recalled` where it would fit if others gave back what they do not need, which they are now asked to */
  reserve(
    request: BudgetRequest,
  ): Promise<
    BudgetLease | { unknown: readonly Counter[] } | { recalled: Counter; refusal: HubError }
  >;
  /** Gives back what a request may hold whose reservation was asked for and not answered. */
  cancel(request: BudgetRequest): Promise<void>;
  /** One process's word on what it holds in counters; told twice, it counts once. */
  account(owner: string, accounts: readonly AdvanceAccount[]): Promise<AdvanceAnswer[]>;
  /**
   * Said for a process that died: what it had settled in counters by its end. What it held ahead and did not spend comes back.
   * @returns the counters in which it counts as living, whose word is to be said again later
   */
  lastWord(owner: string, words: readonly LastWord[]): Promise<string[]>;
};

/** All that a process has settled in one counter, told or not. */
export type LastWord = { name: string; settled: PicoUsd };

/** What a process holds in one counter, and how much more it would like. */
export type AdvanceAccount = {
  counter: Counter;
  /** Whether the store has heard of it before, and not that it is over. */
  isKnown: boolean;
  /** All that was settled from it since then. */
  settled: PicoUsd;
  /** Of that: what the ledger may know for so long already, though the store was not told; others may have raised it by that. */
  late: { cost: PicoUsd; sinceMs: number };
  /** Kept for requests: those under way, and those to come, which have what is `free` of it. */
  held: PicoUsd;
  free: PicoUsd;
  /** To be counted as spent already, beyond what was settled. */
  ahead: PicoUsd;
  wanted: { held: PicoUsd; ahead: PicoUsd };
  /** What one request may cost; where shares are smaller than that, nothing is given ahead. */
  unit: PicoUsd;
};

export type AdvanceAnswer =
  /** The store does not know the counter, or has forgotten what the process held in it. */
  | { type: "lost" }
  | {
      type: "told";
      /** Given further. */
      held: PicoUsd;
      ahead: PicoUsd;
      rise: Rise;
      /** Others want what it does not need. */
      isRecalled: boolean;
      /** Nothing was held and nothing had been settled since the last word: the store has forgotten it. */
      isOver: boolean;
    };

/** What a settlement counts in one hold. */
export function costIn({ models, counter }: Hold, { cost, model, overheads }: Spent): PicoUsd {
  let counted = model === undefined || models.has(model) ? cost : 0n;
  if (counter.scope.type !== "organization") return counted;
  for (const overhead of overheads ?? []) {
    if (models.has(overhead.model)) counted += overhead.cost;
  }
  return counted;
}

/** Whether a hold may be taken: a budget may be used up to its last pico-dollar. */
export function isWithin({ counter, amount }: Hold, { spent, held }: Figures): boolean {
  const { limit, budget } = counter;
  return budget.hard === false || (spent < limit && spent + held + amount <= limit);
}

/** The refusal, in words that say which budget, how much of it is gone, and when it comes back. */
export function budgetExceeded({ counter, amount }: Hold, { spent, held }: Figures): HubError {
  const { scope, budget, user, model } = counter;
  const { limitUsd, period, timeZone = "UTC" } = budget;
  const resetAt = resetOf(counter);
  const owners = Object.entries({ user, model }).filter(([, owner]) => owner !== undefined);
  const of = owners.map(([name, owner]) => ` for ${name} '${owner}'`).join("");
  const bounded = budget.models ? ` on ${budget.models.join(", ")}` : "";
  const length = period === "custom" ? `per ${budget.everyDays} days` : `per ${period}`;
  const during = period === "total" ? "in total" : `${length} (${timeZone})`;
  return new HubError(
    "insufficient_quota",
    `The budget of ${scope.type} '${scope.id}'${of}${bounded} is $${limitUsd} ${during}: $${formatUsd(spent)} is spent, ` +
      `$${formatUsd(held)} is reserved by requests under way, and this request may cost up to $${formatUsd(amount)}. ` +
      `${resetAt === undefined ? "It does not reset" : `It resets at ${resetAt}`}; an administrator can raise it, ` +
      "or ask for fewer output tokens.",
    {
      details: {
        scope: scope.type,
        id: scope.id,
        ...Object.fromEntries(owners),
        period,
        ...(timeZone !== "UTC" && { timeZone }),
        limitUsd,
        spentUsd: formatUsd(spent),
        reservedUsd: formatUsd(held),
        requestedUsd: formatUsd(amount),
        resetAt: resetAt ?? null,
      },
    },
  );
}

/** When a counter starts anew, as ISO text. */
function resetOf({ endMs }: Period): string | undefined {
  return endMs === undefined ? undefined : new Date(endMs).toISOString();
}
