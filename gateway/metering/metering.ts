/** Opens everything that metering needs, in the order it needs it, and closes it the other way round. */
import { join } from "node:path";
import type postgres from "postgres";
import { createMemoryBudgets } from "../budgets/memory-budgets.ts";
import { createRedisBudgets } from "../budgets/redis-budgets.ts";
import type { BudgetStore, Spending } from "../budgets/types.ts";
import { insertRecords, migrateLedger } from "../ledger/database.ts";
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
  /** Segments lie in its folder `spool`; one process at a time. */
  dataDir: string;
  sql: postgres.Sql;
  /** Where limits and budgets are shared by several gateways; absent: this process has them alone. */
  redisUrl?: string | undefined;
  prices: PriceSource;
  now: () => number;
  limits: MeteringLimits;
  /** A failure that metering works around: the database or Redis down, a record refused. */
  onError: (error: unknown) => void;
};

export type Metering = {
  accounts: Accounts;
  /** Everything settled so far is in the database. @throws HubError `database_unavailable` */
  flush(): Promise<void>;
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
  const { dataDir, sql, prices, now, limits, onError } = options;
  const folder = join(dataDir, "spool");
  const spool = await Spool.open({ folder, limits });
  const { limiter, budgets, isAway, closeStores } = await openStores(options, () => allSpending());

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
  const ledgerSpending = async () => {
    const atMs = now();
    await migrateOnce();
    return spendingByLedger(sql, atMs);
  };
  const rehydrate = async () => budgets.raise(await ledgerSpending());
  /** With what was settled a moment ago; where the database is away too, at least what waits for it. */
  const allSpending = async () => {
    try {
      await ingester.flush();
      return await ledgerSpending();
    } catch (error) {
      onError(error);
      return spendingBySpool(spool, now());
    }
  };

  let ready = true;
  try {
    await ingester.flush();
    await rehydrate();
  } catch (error) {
    onError(error);
    ready = false;
    await budgets.raise(await spendingBySpool(spool, now()));
  }
  ingester.start();
  const stopRehydrating = repeat(rehydrate, {
    firstMs: ready ? limits.rehydrateEveryMs : limits.ingestRetryMsMax,
    everyMs: limits.rehydrateEveryMs,
    retryMs: limits.ingestRetryMsMax,
    onError,
  });

  return {
    accounts: createAccounts({
      limiter,
      budgets,
      prices,
      spool,
      now,
      limits,
      onStoreError: onError,
    }),
    flush: () => ingester.flush(),
    figures: () => ({
      spoolBytes: spool.backlogBytes,
      ingestedRecords: ingester.ingestedRecords,
      rejectedRecords: ingester.rejectedRecords,
      damagedLines: spool.damagedLines,
      lostRecords: spool.lostRecords,
      redisAway: isAway() ? 1 : 0,
    }),
    async close() {
      stopRehydrating();
      await ingester.flush().catch(onError);
      await ingester.stop();
      await spool.close();
      closeStores();
    },
  };
}

/** Calls `work` again and again, sooner after a failure; returns what ends that. */
function repeat(
  work: () => Promise<void>,
  times: { firstMs: number; everyMs: number; retryMs: number; onError: (error: unknown) => void },
): () => void {
  let timer: NodeJS.Timeout;
  let stopped = false;
  const schedule = (delayMs: number) => {
    if (stopped) return;
    timer = setTimeout(() => {
      work().then(
        () => schedule(times.everyMs),
        (error: unknown) => {
          times.onError(error);
          schedule(times.retryMs);
        },
      );
    }, delayMs).unref();
  };
  schedule(times.firstMs);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

type Stores = {
  limiter: RateLimiter;
  budgets: BudgetStore;
  isAway: () => boolean;
  closeStores: () => void;
};

/** @param spending  what Redis is told when it is back: all that it lost or missed */
async function openStores(
  { redisUrl, now, limits, onError }: MeteringOptions,
  spending: () => Promise<Spending[]>,
): Promise<Stores> {
  const leaseTtlMs = limits.reservationTtlMs;
  const local = {
    limiter: createMemoryLimiter({ now, placeTtlMs: leaseTtlMs }),
    budgets: createMemoryBudgets({ now, leaseTtlMs }),
  };
  if (redisUrl === undefined) return { ...local, isAway: () => false, closeStores() {} };

  const redis = connectRedis(redisUrl, { timeoutMs: limits.redisTimeoutMs });
  redis.on("error", onError);
  // The error was told by the event; without Redis the gateway starts all the same.
  await redis.connect().catch(() => {});
  const shared = createRedisBudgets({ redis, leaseTtlMs });
  const standIn = new StandIn({
    now,
    retryAfterMs: limits.redisRetryMs,
    catchUp: async () => shared.raise(await spending()),
    onError,
  });
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
    budgets: budgetsWithStandIn({ shared, local: local.budgets }, standIn),
    isAway: () => standIn.isAway,
    closeStores: () => redis.disconnect(),
  };
}
