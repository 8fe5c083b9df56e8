/** Which counters a request falls under, and what it may cost in each. */
import { type Budget, budgetName, type SpendAlert } from "../../sdk/protocol/catalog.ts";
import { type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { type Period, periodAt } from "./periods.ts";
import type { BudgetScope, Counter, Hold } from "./types.ts";

export type Spender = {
  scopes: readonly BudgetScope[];
  /** Whom the request is for; budgets of each user do not count what names nobody. */
  endUser: string | undefined;
  /** Every model that may answer, as `base` or `base:adapter`, and what it may cost there. */
  models: ReadonlyMap<string, PicoUsd>;
  /** Dates the spending: it counts in the periods of this moment, whenever it is settled. */
  atMs: number;
};

/** One hold for each counter; of two budgets that count the same the smaller one. */
export function holdsOf({ scopes, endUser, models, atMs }: Spender): Hold[] {
  const holds = new Map<string, Hold>();
  let all: readonly Group[] | undefined;
  for (const scope of scopes) {
    const { spendAlerts } = scope;
    const monthly = spendAlerts?.length ? countedMonth(scope.budgets, spendAlerts) : undefined;
    const isLacking = monthly !== undefined && !scope.budgets.includes(monthly);
    for (const budget of isLacking ? [...scope.budgets, monthly] : scope.budgets) {
      // Most budgets count whatever is asked, and a request may fall under fifty of them.
      const countsAll = budget.models === undefined && budget.each === undefined;
      if (countsAll) all ??= groupsOf(budget, models);
      for (const group of countsAll && all ? all : groupsOf(budget, models)) {
        if (budget.each?.includes("user") && endUser === undefined) continue;
        const counter = counterOf(scope, budget, { user: endUser, model: group.model, atMs });
        const other = holds.get(counter.name);
        if (other === undefined || counter.limit < other.counter.limit) {
          const told = budget === monthly && spendAlerts ? { ...counter, spendAlerts } : counter;
          holds.set(counter.name, { counter: told, amount: group.amount, models: group.models });
        }
      }
    }
  }
  return [...holds.values()];
}

/** The counter of one budget at a moment; `user` and `model` matter only where each has its own. */
export function counterOf(
  { type, id, projectId }: Omit<BudgetScope, "budgets">,
  budget: Budget,
  { user, model, atMs }: { user: string | undefined; model: string | undefined; atMs: number },
): Counter {
  const made = compile(budget);
  const { name, limit, each, common } = made;
  if (common && isOf(common, { type, id }, atMs)) return common;
  const period = currentPeriod(budget, atMs);
  const owners = {
    user: each.has("user") ? user : undefined,
    model: each.has("model") ? model : undefined,
  };
  // As JSON, so that no name can be taken for another and a lone surrogate has a form.
  const whose = each.size === 0 ? "" : `:${JSON.stringify([owners.user, owners.model])}`;
  const counter: Counter = {
    ...period,
    ...owners,
    name: `${type}:${id}:${name}${whose}:${period.startMs}`,
    scope: { type, id, projectId },
    budget,
    limit,
  };
  if (each.size === 0) made.common = counter;
  return counter;
}

function isOf(
  { scope, startMs, endMs }: Counter,
  { type, id }: Pick<BudgetScope, "type" | "id">,
  atMs: number,
): boolean {
  const isWithin = atMs >= startMs && (endMs === undefined || atMs < endMs);
  return isWithin && scope.id === id && scope.type === type;
}

/** The budget that counts all that a scope spends in a month of UTC; where it has none, one that bounds nothing. */
function countedMonth(budgets: readonly Budget[], alerts: readonly SpendAlert[]): Budget {
  const own = budgets.filter(
    ({ period, timeZone = "UTC", each, models }) =>
      period === "month" && timeZone === "UTC" && !each?.length && models === undefined,
  );
  // The smallest is the one that is held, where several count the same.
  const [least, ...others] = own;
  if (least) return others.reduce((a, b) => (compile(b).limit < compile(a).limit ? b : a), least);
  let made = countingOnly.get(alerts);
  if (made === undefined) {
    made = { limitUsd: "0", period: "month", hard: false };
    countingOnly.set(alerts, made);
  }
  return made;
}

type Group = Pick<Hold, "amount" | "models"> & { model: string | undefined };

/** The models that a budget counts together; what they may cost is what the dearest may. */
function groupsOf(budget: Budget, models: Spender["models"]): Group[] {
  const counted = [...models].filter(([model]) => isAmong(budget.models, model));
  if (budget.each?.includes("model")) {
    return counted.map(([model, amount]) => ({ model, amount, models: new Set([model]) }));
  }
  if (counted.length === 0) return [];
  const amount = counted.reduce((most, [, cost]) => (cost > most ? cost : most), 0n);
  return [{ model: undefined, amount, models: new Set(counted.map(([model]) => model)) }];
}

/** A base model's name stands for its adapters as well. */
function isAmong(models: readonly string[] | undefined, model: string): boolean {
  if (models === undefined) return true;
  return models.includes(model) || models.includes(model.split(":", 1)[0] ?? model);
}

type Compiled = {
  name: string;
  limit: PicoUsd;
  each: ReadonlySet<string>;
  period: Period;
  /** The counter of the present period, where all models and users have one. */
  common?: Counter;
};

/** Policy never changes in place, so what follows from a budget is kept with it. */
function compile(budget: Budget): Compiled {
  let made = compiled.get(budget);
  if (made === undefined) {
    made = {
      name: budgetName(budget),
      limit: parseUsd(budget.limitUsd),
      each: new Set(budget.each),
      period: { startMs: 0, endMs: 0 },
    };
    compiled.set(budget, made);
  }
  return made;
}

function currentPeriod(budget: Budget, atMs: number): Period {
  const made = compile(budget);
  const { startMs, endMs = Number.POSITIVE_INFINITY } = made.period;
  if (atMs < startMs || atMs >= endMs) made.period = periodAt(budget, atMs);
  return made.period;
}

const compiled = new WeakMap<Budget, Compiled>();
const countingOnly = new WeakMap<readonly SpendAlert[], Budget>();
