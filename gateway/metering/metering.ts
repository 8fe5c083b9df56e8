/** Opens everything that metering needs, in the order it needs it, and closes it the other way round. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type BudgetAlert, createBudgetAlerts } from "../budgets/alerts.ts";
import { createKnownBudgets } from "../budgets/known-budgets.ts";
import { LastWords } from "../budgets/last-words.ts";
import { createLeasedBudgets } from "../budgets/leased-budgets.ts";
import { createMemoryBudgets } from "../budgets/memory-budgets.ts";
import { createRedisBudgets } from "../budgets/redis-budgets.ts";
import type {
  BudgetScope,
  BudgetStore,
  Counter,
  Figures,
  Rise,
  Spending,
} from "../budgets/types.ts";
import { type AlertPosts, createAlertPosts } from "../budgets/webhook.ts";
import { insertRecords, migrateLedger } from "../ledger/database.ts";
import { inTime } from "../ledger/in-time.ts";
import { Ingester } from "../ledger/ingest.ts";
import type { PriceSource } from "../ledger/price-book.ts";
import { spendingByLedger, spendingBySpool } from "../ledger/spending.ts";
import { Spool } from "../ledger/spool.ts";
import { createMemoryLimiter } from "../limits/memory-limiter.ts";
import { createRedisLimiter } from "../limits/redis-limiter.ts";
import type { RateLimiter } from "../limits/types.ts";
import { createAccounts } from "./accounts.ts";
import type { MeteringLimits } from "./config.ts";
import { connectRedis } from "./redis.ts";
import { budgetsWithStandIn, limiterWithStandIn, StandIn } from "./stand-in.ts";
import type { Accounts } from "./types.ts";

export type MeteringOptions = {
  /** Segments lie in its folder `spool`, last words in `budgets`; one process at a time. */
  dataDir: string;
  sql: postgres.Sql;
  /** Where limits and budgets are shared by several gateways; absent: this process has them alone. */
  redisUrl?: string | undefined;
  prices: PriceSource;
  /** What bounds all projects together. */
  organization?: (() => Pick<BudgetScope, "budgets" | "spendAlerts">) | undefined;
  /** Told of each share of a budget that is spent, once in all gateways. */
  onAlert?: ((alert: BudgetAlert) => void) | undefined;
  /** Where they are posted as JSON, once in all gateways as long as none dies of it. */
  alertUrl?: string | undefined;
  now: () => number;
  /** Milliseconds on a clock that never steps: what is held in this process ends by it. Absent: `now`, which may. */
  clockMs?: (() => number) | undefined;
  limits: MeteringLimits;
  /** A failure that metering works around: the database or Redis down, a record refused. */
  onError: (error: unknown) => void;
};

export type Metering = {
  accounts: Accounts;
  /** Everything settled so far is in the database. @throws HubError `database_unavailable` */
  flush(): Promise<void>;
  /** What is spent and held now. */
  budgetFigures(counters: readonly Counter[]): Promise<Figures[]>;
  /** For `/metrics`: what waits, what went through, and what should stay zero. */
  figures(): MeteringFigures;
  /** Call when no request is under way any more; tries once to empty the spool. */
  close(): Promise<void>;
};

export type MeteringFigures = {
  spoolBytes: number;
  ingestedRecords: number;
  rejectedRecords: number;
  damagedLines: number;
  lostRecords: number;
  /** 1 while this process keeps limits and budgets alone, because Redis does not answer. */
  redisAway: number;
};

/**
 * Works with the database down: budgets then start from what the spool still holds, and are raised to
 * the ledger as soon as it answers.
 * @throws Error when another process owns the spool
 */
export async function openMetering(options: MeteringOptions): Promise<Metering> {
  const { dataDir, sql, prices, now, clockMs = now, alertUrl, limits, onError } = options;
  const folder = join(dataDir, "spool");
  const spool = await Spool.open({ folder, limits });

  let migrated = false;
  const migrateOnce = async () => {
    if (!migrated) await migrateLedger(sql);
    migrated = true;
  };
  const ingester = new Ingester({
    spool,
    limits,
    async insert(lines) {
      await migrateOnce();
      return insertRecords(sql, lines);
    },
    rejectedFile: join(dataDir, "ledger-rejected.jsonl"),
    onError,
  });
  const { limiter, budgets, isAway, closeStores } = await openStores(options, {
    onDoubt: (counter) => known.forget(counter),
    onRise: (rises) => alerts.rose(rises),
  });
  const load = spendingLoader({ ...options, spool, ingester, migrateOnce });
  let posts: AlertPosts | undefined;
  const alerts = createBudgetAlerts({
    sql,
    now,
    waitingMax: limits.budgetAlertsMax,
    retryMs: limits.ingestRetryMsMax,
    toPostMax: alertUrl === undefined ? 0 : limits.budgetAlertsMax,
    onAlert(alert) {
      options.onAlert?.(alert);
      posts?.wake();
    },
    onError,
  });
  const known = createKnownBudgets({
    store: budgets,
    now: clockMs,
    load,
    refreshEveryMs: limits.rehydrateEveryMs,
    retryMs: limits.ingestRetryMsMax,
    countersMax: limits.budgetCountersMax,
    onRise: alerts.rose,
    onError,
  });
  try {
    await ingester.flush();
    await migrateOnce();
  } catch (error) {
    onError(error);
  }
  ingester.start();
  if (alertUrl !== undefined) {
    posts = createAlertPosts({
      sql,
      url: alertUrl,
      timeoutMs: limits.budgetAlertTimeoutMs,
      retryForMs: limits.budgetAlertRetryForMs,
      pollMs: limits.budgetAlertPollMs,
      ready: migrateOnce,
      onError,
    });
  }

  return {
    accounts: createAccounts({
      limiter,
      budgets: known,
      organization: options.organization ?? (() => ({ budgets: [] })),
      prices,
      spool,
      now,
      limits,
      onStoreError: onError,
    }),
    async flush() {
      await ingester.flush();
      await alerts.flush();
    },
    budgetFigures: (counters) => known.read(counters),
    figures: () => ({
      spoolBytes: spool.backlogBytes,
      ingestedRecords: ingester.ingestedRecords,
      rejectedRecords: ingester.rejectedRecords,
      damagedLines: spool.damagedLines,
      lostRecords: spool.lostRecords,
      redisAway: isAway() ? 1 : 0,
    }),
    async close() {
      known.close();
      await ingester.flush().catch(onError);
      await ingester.stop();
      await closeStores();
      await alerts.close();
      await posts?.close();
      await spool.close();
    },
  };
}

type LoaderParts = Pick<MeteringOptions, "sql" | "now" | "clockMs" | "limits" | "onError"> & {
  spool: Spool;
  ingester: Ingester;
  migrateOnce: () => Promise<void>;
};

/** With what was settled a moment ago; where the database is away, at least what waits for it. */
function spendingLoader({
  sql,
  now,
  clockMs = now,
  limits,
  onError,
  spool,
  ingester,
  migrateOnce,
}: LoaderParts) {
  let awayUntilMs = Number.NEGATIVE_INFINITY;
  return async (
    counters: readonly Counter[],
  ): Promise<{ spending: Spending[]; isWhole: boolean }> => {
    if (clockMs() >= awayUntilMs) {
      try {
        const read = async () => {
          await ingester.flush();
          await migrateOnce();
          return spendingByLedger(sql, counters);
        };
        const spending = await inTime(read(), {
          timeoutMs: limits.budgetLoadTimeoutMs,
          failure: (cause) =>
            new HubError(
              "database_unavailable",
              "The ledger does not say what budgets have spent.",
              { cause },
            ),
        });
        return { spending, isWhole: true };
      } catch (error) {
        awayUntilMs = clockMs() + limits.ingestRetryMsMax;
        onError(error);
      }
    }
    return { spending: await spendingBySpool(spool, counters), isWhole: false };
  };
}

type Stores = {
  limiter: RateLimiter;
  budgets: BudgetStore;
  isAway: () => boolean;
  closeStores: () => Promise<void>;
};

type Told = {
  /** Redis may have missed or lost what was spent: called before its counters are used again. */
  onDoubt: (counter?: Counter) => void;
  onRise: (rises: readonly Rise[]) => void;
};

async function openStores(
  { dataDir, redisUrl, now, clockMs = now, limits, onError }: MeteringOptions,
  { onDoubt, onRise }: Told,
): Promise<Stores> {
  const leaseTtlMs = limits.reservationTtlMs;
  const local = {
    limiter: createMemoryLimiter({
      now: clockMs,
      placeTtlMs: leaseTtlMs,
      bucketsMax: limits.limitBucketsMax,
    }),
    budgets: createMemoryBudgets({
      now: clockMs,
      leaseTtlMs,
      countersMax: limits.budgetCountersMax,
    }),
  };
  if (redisUrl === undefined) return { ...local, isAway: () => false, async closeStores() {} };

  const redis = connectRedis(redisUrl, { timeoutMs: limits.redisTimeoutMs });
  redis.on("error", onError);
  // The error was told by the event; without Redis the gateway starts all the same.
  await redis.connect().catch(() => {});
  const inRedis = createRedisBudgets({ redis, leaseTtlMs, advanceMs: limits.budgetLeaseMs });
  const owner = randomUUID();
  const lastWords = await LastWords.open({ folder: join(dataDir, "budgets"), owner, onError });
  const shared = createLeasedBudgets({
    shared: inRedis,
    owner,
    clockMs: () => performance.now(),
    sleep,
    leaseTtlMs,
    advanceMs: limits.budgetLeaseMs,
    idleMs: limits.budgetLeaseIdleMs,
    recallMs: limits.budgetRecallMs,
    advancesMax: limits.budgetLeasesMax,
    notedMax: limits.budgetCountersMax,
    onSettled: (name, settled) => lastWords.note(name, settled),
    onRise,
    onLost: onDoubt,
    onError: (error) => standIn.fail(error),
  });
  const standIn = new StandIn({
    now: clockMs,
    retryAfterMs: limits.redisRetryMs,
    catchUp: async () => {
      await redis.ping();
      // What it was not told comes first, or it would be counted again on top of what the ledger says.
      await shared.resume();
      onDoubt();
    },
    onError,
  });
  const ticks = setInterval(() => {
    standIn.retry();
    void shared.tick();
  }, limits.budgetLeaseTickMs).unref();
  const remembrances = setInterval(() => {
    if (!standIn.isAway) lastWords.say(inRedis).catch(onError);
  }, limits.rehydrateEveryMs).unref();
  redis.on("ready", () => void standIn.comeBack());
  return {
    limiter: limiterWithStandIn(
      {
        shared: createRedisLimiter({ redis, placeTtlMs: leaseTtlMs }),
        local: local.limiter,
        share: limits.redisDownShare,
      },
      standIn,
    ),
    budgets: budgetsWithStandIn(
      { shared, local: local.budgets, alone: limits.redisDownBudgets },
      standIn,
    ),
    isAway: () => standIn.isAway,
    async closeStores() {
      clearInterval(ticks);
      clearInterval(remembrances);
      await shared.close();
      lastWords.close();
      redis.disconnect();
    },
  };
}
