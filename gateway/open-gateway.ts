/** The gateway with its own accounts and reports over a database: what every way of running it shares. */

import type postgres from "postgres";
import { Counter, Gauge, type Registry } from "prom-client";
import { BatchStore } from "./batches/store.ts";
import type { BudgetAlert } from "./budgets/alerts.ts";
import { listBudgets } from "./budgets/list.ts";
import type { Counter as BudgetCounter } from "./budgets/types.ts";
import { defaultLimits } from "./config.ts";
import { MasterKeys } from "./content-log/master-keys.ts";
import { FileStore } from "./files/store.ts";
import { UploadStore } from "./files/uploads.ts";
import { createGateway, type Gateway, type GatewayParts } from "./gateway.ts";
import { openIdempotencyStore } from "./idempotency/store.ts";
import { openKeptStores } from "./kept/open.ts";
import { defaultMeteringLimits, type MeteringLimits } from "./metering/config.ts";
import { type Metering, openMetering } from "./metering/metering.ts";
import { sessionIn } from "./people/people.ts";
import { LiveLog } from "./reports/live-log.ts";
import { createReports } from "./reports/reports.ts";
import { openResponseCacheStore } from "./response-cache/open.ts";

export type OpenGatewayParts = Omit<
  GatewayParts,
  | "accounts"
  | "reports"
  | "kept"
  | "idempotency"
  | "responseCache"
  | "filing"
  | "contents"
  | "dataDir"
> & {
  sql: postgres.Sql;
  /** For the spool and `snapshot.json`; one gateway at a time. */
  dataDir: string;
  /** Shares limits and budgets between gateways; absent keeps them in this process. */
  redisUrl?: string | undefined;
  /** Where alerts of budgets are posted as JSON. */
  budgetAlertUrl?: string | undefined;
  /** What contents are sealed with, see `content-log/master-keys.ts`; absent keeps none. */
  contentLogKey?: string | undefined;
  meteringLimits?: Partial<MeteringLimits> | undefined;
};

export type OpenedGateway = Gateway & {
  /** Everything settled so far is in the database. */
  flush(): Promise<void>;
};

/**
 * `stop` also empties the spool into the database, if that answers, and leaves `sql` open.
 * @throws Error when another process owns the data folder, or a content log's key is none
 */
export async function openGateway(parts: OpenGatewayParts): Promise<OpenedGateway> {
  const { sql, dataDir, logger, now = Date.now } = parts;
  let metering: Metering | undefined;
  const limits = { ...defaultLimits, ...parts.limits };
  const live = new LiveLog({ sql, limits });
  let tell: ((alert: BudgetAlert) => void) | undefined;
  const figuresOf = async (counters: readonly BudgetCounter[]) =>
    (await metering?.budgetFigures(counters)) ?? [];
  const files = new FileStore({ sql, now, limits });
  const gateway = await createGateway({
    ...parts,
    kept: openKeptStores({ sql, now, limits }),
    ...(limits.idempotencyHours > 0 && {
      idempotency: openIdempotencyStore({
        sql,
        retentionMs: limits.idempotencyHours * hourMs,
        leaseMs: limits.idempotencyLeaseMs,
        answersMax: limits.idempotencyAnswersMax,
        timeoutMs: limits.responseStoreTimeoutMs,
      }),
    }),
    ...(limits.responseCacheTtlSecondsMax > 0 && {
      responseCache: openResponseCacheStore({
        redisUrl: parts.redisUrl,
        timeoutMs: meteringLimitsOf(parts).redisTimeoutMs,
        bounds: limits,
        now,
      }),
    }),
    contents: { sql, masterKeys: new MasterKeys(parts.contentLogKey) },
    filing: {
      sql,
      files,
      uploads: new UploadStore({ sql, files, now, limits }),
      batches: new BatchStore({ sql, files, now, limits }),
    },
    async accounts({ prices, snapshot }) {
      metering = await openMetering({
        organization: () => snapshot().organization,
        dataDir,
        sql,
        redisUrl: parts.redisUrl,
        prices,
        now,
        clockMs: () => performance.now(),
        limits: meteringLimitsOf(parts),
        onAlert: (alert) => tell?.(alert),
        alertUrl: parts.budgetAlertUrl,
        onError: (error) =>
          logger.warn({ error: String(error) }, "metering works around a failure"),
      });
      return metering.accounts;
    },
    reports: ({ identity, people, snapshot }) => {
      const reports = createReports({
        sql,
        async authenticate(authorization) {
          const session = people && sessionIn(authorization);
          if (session === undefined) return identity.identify(authorization);
          await people?.personOf(session);
          return { type: "admin" };
        },
        now,
        limits,
        live,
        ownerName: (id) => snapshot().ownerName(id),
        budgets: (query) => listBudgets({ sql, snapshot, now, figuresOf }, query),
      });
      return {
        // Whoever has seen an answer finds it in the report: what this gateway settled is taken first.
        async fetch(request) {
          await metering?.flush().catch(() => {});
          return reports.fetch(request);
        },
      };
    },
  });
  const opened = metering as Metering | undefined;
  if (opened) addMeteringMetrics(gateway.metrics, opened);
  tell = alertTeller(parts, gateway.metrics);
  return {
    ...gateway,
    flush: async () => opened?.flush(),
    async stop() {
      await live.close();
      await gateway.stop();
      await opened?.close();
    },
  };
}

/**
 * What a request reserved is held for as long as it may go on: a lease that ended before its stream would
 * give its money and its place to others while both are still in use.
 */
function meteringLimitsOf({ upstreams, limits, meteringLimits }: OpenGatewayParts): MeteringLimits {
  const wanted = { ...defaultMeteringLimits, ...meteringLimits };
  const { totalTimeoutMs } = { ...defaultLimits, ...limits };
  const longestMs = Math.max(totalTimeoutMs, ...upstreams.map((it) => it.totalTimeoutMs ?? 0));
  const reservationTtlMs = Math.ceil(Math.max(wanted.reservationTtlMs, longestMs + settleMs));
  return { ...wanted, reservationTtlMs };
}

const hourMs = 60 * 60_000;
/** For what comes before the attempts and after them. */
const settleMs = 60_000;

/** An alert's log line and its metric. */
function alertTeller(
  { logger }: OpenGatewayParts,
  registry: Registry,
): (alert: BudgetAlert) => void {
  const alerts = new Counter({
    name: "gateway_budget_alerts",
    help: "Shares of budgets that were spent, each told once a period.",
    labelNames: ["scope", "share"],
    registers: [registry],
  });
  return (alert) => {
    const { scope, share } = alert;
    alerts.inc({ scope, share: String(share) });
    logger.warn({ alert }, "a budget is spent to a share that is told");
  };
}

function addMeteringMetrics(registry: Registry, metering: Metering): void {
  const figures = [
    [
      "gateway_spool_bytes",
      "Settled requests on disk that the database has not taken yet.",
      "spoolBytes",
    ],
    ["gateway_ledger_records", "Settled requests that the database has taken.", "ingestedRecords"],
    [
      "gateway_ledger_rejected_records",
      "Records that the database refused for good.",
      "rejectedRecords",
    ],
    ["gateway_spool_damaged_lines", "Lines of the spool that could not be read.", "damagedLines"],
    ["gateway_ledger_lost_records", "Records that no disk took; should stay zero.", "lostRecords"],
    [
      "gateway_redis_away",
      "1 while this process keeps limits and budgets alone, because Redis does not answer.",
      "redisAway",
    ],
  ] as const;
  for (const [name, help, figure] of figures) {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(metering.figures()[figure]);
      },
    });
  }
}
