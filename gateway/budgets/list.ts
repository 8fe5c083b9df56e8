/** Every budget with what is spent and held of it now. */
import type postgres from "postgres";
import { type Budget, budgetName } from "../../sdk/protocol/catalog.ts";
import { formatUsd } from "../../sdk/protocol/money.ts";
import type { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { counterOf } from "./counters.ts";
import type { BudgetScope, Counter, Figures } from "./types.ts";

export type BudgetStanding = {
  /** Of the budget, for the next page. */
  id: string;
  object: "budget";
  scope: string;
  scope_id: string;
  name: string;
  project_id: string | null;
  /** Where each has its own. */
  end_user: string | null;
  model: string | null;
  budget: Budget;
  spent_usd: string;
  /** Reserved by requests under way. */
  held_usd: string;
  limit_usd: string;
  period_start: string;
  reset_at: string | null;
};

export type BudgetListParts = {
  sql: postgres.Sql;
  snapshot: () => SnapshotIndex;
  figuresOf: (counters: readonly Counter[]) => Promise<Figures[]>;
  now: () => number;
};

type Named = BudgetScope & { name: string };

/** One page of budgets; of those that each user or model has, whoever has spent most of it. */
export async function listBudgets(
  { sql, snapshot, figuresOf, now }: BudgetListParts,
  {
    projectId,
    after,
    limit,
  }: { projectId: string | undefined; after: string | undefined; limit: number },
): Promise<{ data: BudgetStanding[]; last: string | undefined }> {
  const all = scopesOf(snapshot(), projectId).flatMap((scope) =>
    scope.budgets.map((budget) => ({
      scope,
      budget,
      id: `${scope.type}:${scope.id}:${budgetName(budget)}`,
    })),
  );
  const from = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
  const page = all.slice(from, from + limit);
  const atMs = now();
  const counters = await Promise.all(
    page.map(async ({ scope, budget, id }) => {
      const whole = counterOf(scope, budget, { user: undefined, model: undefined, atMs });
      const owned = budget.each?.length
        ? await spenders(sql, whole)
        : [{ user: undefined, model: undefined }];
      return owned.map((owner) => ({
        id,
        scope,
        counter: counterOf(scope, budget, { ...owner, atMs }),
      }));
    }),
  );
  const flat = counters.flat();
  const figures = await figuresOf(flat.map(({ counter }) => counter));
  return {
    data: flat.map(({ id, scope, counter }, index) =>
      toStanding(id, scope, counter, figures[index] ?? { spent: 0n, held: 0n }),
    ),
    last: from + limit < all.length ? page.at(-1)?.id : undefined,
  };
}

/** Those of the organisation, of projects and of keys that are not revoked. */
function scopesOf(snapshot: SnapshotIndex, only: string | undefined): Named[] {
  const organization: Named = {
    type: "organization",
    id: "organization",
    name: "organization",
    projectId: undefined,
    budgets: snapshot.organization.budgets,
  };
  const projects = snapshot.projects
    .filter(({ id }) => only === undefined || id === only)
    .map(
      (it): Named => ({
        type: "project",
        id: it.id,
        name: it.name,
        projectId: it.id,
        budgets: budgetsOf(it),
      }),
    );
  const keys = snapshot.keys
    .filter((it) => it.revokedAt === undefined && (only === undefined || it.projectId === only))
    .map(
      (it): Named => ({
        type: "key",
        id: it.id,
        name: it.name,
        projectId: it.projectId,
        budgets: budgetsOf(it),
      }),
    );
  return [...(only === undefined ? [organization] : []), ...projects, ...keys];
}

/** Short form and list in one. */
export function budgetsOf({
  budget,
  budgets = [],
}: {
  budget?: Budget | undefined;
  budgets?: readonly Budget[] | undefined;
}): readonly Budget[] {
  return budget === undefined ? budgets : [budget, ...budgets];
}

type Owner = { user: string | undefined; model: string | undefined };

async function spenders(sql: postgres.Sql, { scope, startMs, budget }: Counter): Promise<Owner[]> {
  const { each = [], models } = budget;
  const user = each.includes("user");
  const model = each.includes("model");
  const rows = await sql<{ user: string | null; model: string | null }[]>`
    select case when ${user} then end_user end as user,
      case when ${model} then coalesce(model || ':' || adapter, model) end as model
    from billing.requests
    where at >= ${new Date(startMs).toISOString()}::text::timestamptz and cost is not null
      and (${scope.projectId ?? null}::text is null or project_id = ${scope.projectId ?? null}::text)
      and (${scope.type !== "key"} or key_id = ${scope.id})
      and (${!user} or end_user is not null) and (${!model} or model is not null)
      and (${models === undefined} or model = any(${models ?? []}::text[])
        or model || ':' || adapter = any(${models ?? []}::text[]))
    group by 1, 2 order by sum(cost) desc, 1, 2 limit ${spendersMax}`;
  return rows.map((row) => ({ user: row.user ?? undefined, model: row.model ?? undefined }));
}

function toStanding(
  id: string,
  scope: Named,
  counter: Counter,
  { spent, held }: Figures,
): BudgetStanding {
  return {
    id,
    object: "budget",
    scope: scope.type,
    scope_id: scope.id,
    name: scope.name,
    project_id: scope.projectId ?? null,
    end_user: counter.user ?? null,
    model: counter.model ?? null,
    budget: counter.budget,
    spent_usd: formatUsd(spent),
    held_usd: formatUsd(held),
    limit_usd: formatUsd(counter.limit),
    period_start: new Date(counter.startMs).toISOString(),
    reset_at: counter.endMs === undefined ? null : new Date(counter.endMs).toISOString(),
  };
}

const spendersMax = 100;
