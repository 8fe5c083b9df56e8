/**
 * Posts alerts to the operator's address, one after another, until they are taken; after some time they are told and
 * given up. They wait in the database: what a gateway wrote down and did not live to post, another one posts.
 */

import type postgres from "postgres";
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { alertColumns, type BudgetAlert, toAlert } from "./alerts.ts";

export type AlertPostsOptions = {
  sql: postgres.Sql;
  url: string;
  timeoutMs: number;
  /** For so long one is posted again, at longer and longer intervals. */
  retryForMs: number;
  /** How often what others left is looked for. */
  pollMs: number;
  /** Resolves once the database has its tables. */
  ready: () => Promise<unknown>;
  onError: (error: unknown) => void;
};

export type AlertPosts = {
  /** There is something new to post. */
  wake(): void;
  /** What was not taken by now waits for the next gateway. */
  close(): Promise<void>;
};

/**
 * An alert may be posted twice, by two gateways or after a break: its `id` stays the same. Of several gateways one at a
 * time has an alert, and none passes one that still waits.
 */
export function createAlertPosts(options: AlertPostsOptions): AlertPosts {
  const { sql, url, timeoutMs, retryForMs, pollMs, ready, onError } = options;
  const closing = new AbortController();
  let running: Promise<void> | undefined;
  let isWoken = false;
  let timer: NodeJS.Timeout | undefined;

  /** @returns after how long to look again */
  async function postAll(): Promise<number> {
    await ready();
    while (!closing.signal.aborted) {
      // Whoever dies with it leaves it to others by then.
      const claimed = await claim(sql, 2 * timeoutMs);
      if (!claimed) break;
      const { alert, attempts } = claimed;
      const refusal = await post(alert);
      if (!refusal) {
        await taken(sql, alert.id);
        continue;
      }
      const waitMs = closing.signal.aborted ? 0 : waitAfter(attempts, retryForMs);
      const isGivenUp = refusal.isFinal || waitMs === undefined;
      await refused(sql, { ...claimed, waitMs: isGivenUp ? undefined : waitMs });
      if (!isGivenUp) return Math.min(waitMs, pollMs);
      onError(new Error(`budget alert ${alert.id} was not posted: ${String(refusal.error)}`));
    }
    return pollMs;
  }

  async function post(alert: BudgetAlert): Promise<Refusal | undefined> {
    const { posted_at: _, ...body } = alert;
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "webhook-id": `budget_alert_${alert.id}`,
        },
        body: JSON.stringify(body),
        redirect: "error",
        signal: anySignal([closing.signal, AbortSignal.timeout(timeoutMs)]),
      });
      await response.body?.cancel();
      if (response.ok) return undefined;
      const error = new Error(`the webhook for budget alerts answered ${response.status}`);
      return { error, isFinal: isFinal(response.status) };
    } catch (error) {
      return { error, isFinal: false };
    }
  }

  function wake(): void {
    if (closing.signal.aborted) return;
    clearTimeout(timer);
    isWoken = running !== undefined;
    running ??= postAll()
      .catch((error: unknown) => {
        onError(error);
        return pollMs;
      })
      .then((waitMs) => {
        running = undefined;
        if (closing.signal.aborted) return;
        timer = setTimeout(wake, isWoken ? 0 : waitMs).unref();
        isWoken = false;
      });
  }

  wake();
  return {
    wake,
    async close() {
      closing.abort();
      clearTimeout(timer);
      await running;
    },
  };
}

type Claimed = { alert: BudgetAlert; attempts: number };
type Refusal = { error: unknown; isFinal: boolean };

/** The first that waits, where its turn has come and nobody else has it. */
async function claim(sql: postgres.Sql, claimMs: number): Promise<Claimed | undefined> {
  const [row] = await sql`
    update billing.budget_alerts set post_at = ${later(sql, claimMs)}, post_attempts = post_attempts + 1
    where id = (select min(id) from billing.budget_alerts where post_at is not null) and post_at <= now()
    returning post_attempts, ${alertColumns(sql)}`;
  if (!row) return undefined;
  const { post_attempts, ...alert } = row;
  return { alert: toAlert(alert as postgres.Row), attempts: Number(post_attempts) };
}

async function taken(sql: postgres.Sql, id: number): Promise<void> {
  await sql`update billing.budget_alerts set post_at = null, posted_at = now() where id = ${id}::bigint`;
}

/** What another gateway has by now is its own to decide. @param waitMs absent where it is given up */
async function refused(
  sql: postgres.Sql,
  { alert, attempts, waitMs }: Claimed & { waitMs: number | undefined },
): Promise<void> {
  await sql`
    update billing.budget_alerts set post_at = ${waitMs === undefined ? sql`null` : later(sql, waitMs)}
    where id = ${alert.id}::bigint and post_attempts = ${attempts}::int and posted_at is null`;
}

/** By the database's clock, which all gateways share. */
function later(sql: postgres.Sql, ms: number) {
  return sql`now() + ${ms}::float8 * interval '1 millisecond'`;
}

/** @returns how long to wait after so many attempts; nothing once all waits would be too long together */
export function waitAfter(attempts: number, retryForMs: number): number | undefined {
  let waitMs = firstWaitMs;
  let waitedMs = waitMs;
  for (let attempt = 1; attempt < attempts; attempt++) {
    waitMs = Math.min(2 * waitMs, waitMsMax);
    waitedMs += waitMs;
  }
  return waitedMs > retryForMs ? undefined : waitMs;
}

/** Whoever refuses one for what it is would refuse it again, and others wait behind it. */
function isFinal(status: number): boolean {
  return status >= 400 && status < 500 && ![401, 403, 404, 408, 425, 429].includes(status);
}

const firstWaitMs = 500;
const waitMsMax = 60_000;
