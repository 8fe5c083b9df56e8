/** Tells once a period and share how far a budget is spent: to the database, the log, metrics and a webhook. */
import { LRUCache } from "lru-cache";
import type postgres from "postgres";
import type { Budget, SpendAlert } from "../../sdk/protocol/catalog.ts";
import { formatUsd, type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { storable } from "../ledger/record.ts";
import type { Counter, Rise } from "./types.ts";

/** As it is listed, logged and posted. */
export type BudgetAlert = {
  id: number;
  object: "budget_alert";
  at: string;
  scope: string;
  scope_id: string;
  project_id: string | null;
  end_user: string | null;
  model: string | null;
  budget: unknown;
  share: number;
  limit_usd: string;
  spent_usd: string;
  reset_at: string | null;
  /** When the webhook took it; absent before, where it was given up, and where there is none. */
  posted_at: string | null;
  /** Where it is one of OpenAI's spend alerts, which has a threshold in place of a share: whom to write to. */
  spend_alert: { id: string; recipients: string[]; subject_prefix: string | null } | null;
};

export type BudgetAlertsOptions = {
  sql: postgres.Sql;
  now: () => number;
  /** Alerts that wait while the database is away; further ones are found again when their counter is used. */
  waitingMax: number;
  retryMs: number;
  /** Whether they are to be posted, see `webhook.ts`: of so many that wait for it further ones are only listed. */
  toPostMax: number;
  /** Told of each alert that is new to the installation. */
  onAlert: (alert: BudgetAlert) => void;
  onError: (error: unknown) => void;
};

export type BudgetAlerts = {
  /**
   * Looks for shares that are reached and that nobody is known to have told: whoever saw a counter pass one may have died,
   * or never have heard of it. Never throws, and waits for nothing.
   */
  rose(rises: readonly Rise[]): void;
  /** All that was found is told, if the database answers. */
  flush(): Promise<void>;
  close(): Promise<void>;
};

/** Whichever process writes an alert down first is the one that tells it, also after a restart. */
export function createBudgetAlerts(options: BudgetAlertsOptions): BudgetAlerts {
  const { sql, now, waitingMax, retryMs, toPostMax, onAlert, onError } = options;
  const waiting = new Map<string, object>();
  /** What the database has; of what is forgotten here it is asked again. */
  const written = new LRUCache<string, true>({ max: waitingMax });
  let running: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  async function tellAll(): Promise<void> {
    while (waiting.size > 0) {
      const together = [...waiting].slice(0, insertedAtOnce);
      const told = await insertAlerts(sql, {
        alerts: together.map(([, alert]) => alert),
        keptSince: new Date(now() - retentionMs).toISOString(),
        toPostMax,
      });
      for (const [name] of together) {
        waiting.delete(name);
        written.set(name, true);
      }
      for (const alert of told) onAlert(alert);
    }
  }

  function flush(): Promise<void> {
    running ??= tellAll().finally(() => {
      running = undefined;
    });
    return running;
  }

  function flushLater(): void {
    if (timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      flush().catch((error: unknown) => {
        onError(error);
        flushLater();
      });
    }, retryMs).unref();
  }

  return {
    rose(rises) {
      for (const { counter, after } of rises) {
        const find = (name: string, toAlert: () => object) => {
          if (written.has(name) || waiting.has(name) || waiting.size >= waitingMax) return;
          waiting.set(name, toAlert());
        };
        for (const share of counter.budget.alertAt ?? []) {
          if (after < (counter.limit * BigInt(Math.round(share * 1000))) / 1000n) continue;
          find(`${counter.name} ${counter.limit} ${share}`, () => toRow(counter, share, after));
        }
        for (const alert of counter.spendAlerts ?? []) {
          const limit = parseUsd(alert.thresholdUsd);
          if (after < limit) continue;
          // Whichever budget counts the month by now: it is told but once.
          const { scope, startMs } = counter;
          const name = `${scope.type}:${scope.id}:${startMs} ${alert.id}`;
          find(`${name} ${limit}`, () => ({
            ...toRow({ ...counter, name, limit, budget: budgetOf(alert) }, 1, after),
            ...toldOf(alert),
          }));
        }
      }
      // A timer waits for the database to come back.
      if (waiting.size === 0 || timer !== undefined) return;
      flush().catch((error: unknown) => {
        onError(error);
        flushLater();
      });
    },
    flush,
    async close() {
      clearTimeout(timer);
      await flush().catch(onError);
      clearTimeout(timer);
    },
  };

  function toRow(counter: Counter, share: number, spent: PicoUsd): object {
    const { scope, endMs } = counter;
    return {
      at: new Date(now()).toISOString(),
      counter: counter.name,
      scope: scope.type,
      scope_id: scope.id,
      project_id: scope.projectId,
      end_user: counter.user,
      model: counter.model,
      budget: counter.budget,
      share,
      limit: formatUsd(counter.limit),
      spent: formatUsd(spent),
      reset_at: endMs === undefined ? undefined : new Date(endMs).toISOString(),
    };
  }
}

/** What the alert is about, as a budget that refuses nothing. */
function budgetOf({ thresholdUsd }: SpendAlert): Budget {
  return { limitUsd: thresholdUsd, period: "month", hard: false };
}

function toldOf({ id, recipients, subjectPrefix }: SpendAlert): object {
  return { spend_alert: { id, recipients, subject_prefix: subjectPrefix ?? null } };
}

/** @returns those that were not there yet */
async function insertAlerts(
  sql: postgres.Sql,
  {
    alerts,
    keptSince,
    toPostMax,
  }: { alerts: readonly object[]; keptSince: string; toPostMax: number },
): Promise<BudgetAlert[]> {
  const rows = await sql`
    with expired as (
      delete from billing.budget_alerts
      where at < ${keptSince}::text::timestamptz and reset_at < ${keptSince}::text::timestamptz
    ), told as (
      insert into billing.budget_alerts
        (at, counter, scope, scope_id, project_id, end_user, model, budget, share, "limit", spent, reset_at,
          spend_alert, post_at)
      select at, counter, scope, scope_id, project_id, end_user, model, budget, share, "limit", spent, reset_at,
        spend_alert,
        case when (select count(*) from billing.budget_alerts where post_at is not null) < ${toPostMax}::int
          then now() end
      from jsonb_to_recordset(${storable(JSON.stringify(alerts))}::text::jsonb) as alert (
        at timestamptz, counter text, scope text, scope_id text, project_id text, end_user text, model text,
        budget jsonb, share double precision, "limit" numeric, spent numeric, reset_at timestamptz,
        spend_alert jsonb)
      on conflict do nothing returning *
    ) select ${alertColumns(sql)} from told order by id`;
  return rows.map(toAlert);
}

/** The newest first. @param projectId  absent for admins, who see all */
export async function listAlerts(
  sql: postgres.Sql,
  {
    projectId,
    before,
    limit,
  }: { projectId: string | undefined; before: number | undefined; limit: number },
): Promise<BudgetAlert[]> {
  const rows = await sql`
    select ${alertColumns(sql)} from billing.budget_alerts
    where (${projectId ?? null}::text is null or project_id = ${projectId ?? null}::text)
      and (${before ?? null}::bigint is null or id < ${before ?? null}::bigint)
    order by id desc limit ${limit}`;
  return rows.map(toAlert);
}

export const alertColumns = (sql: postgres.Sql) => sql`
  id::float8 as id, to_char(at at time zone 'utc', ${isoFormat}) as at, scope, scope_id, project_id, end_user, model,
  budget::text as budget, spend_alert::text as spend_alert, share, trim_scale("limit")::text as limit_usd, trim_scale(spent)::text as spent_usd,
  to_char(reset_at at time zone 'utc', ${isoFormat}) as reset_at,
  to_char(posted_at at time zone 'utc', ${isoFormat}) as posted_at`;

export function toAlert({ budget, id, spend_alert, ...row }: postgres.Row): BudgetAlert {
  return {
    object: "budget_alert",
    ...row,
    id: Number(id),
    budget: JSON.parse(budget),
    spend_alert: JSON.parse(spend_alert ?? "null"),
  } as BudgetAlert;
}

const isoFormat = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"';
const insertedAtOnce = 100;
const retentionMs = 400 * 86_400_000;
