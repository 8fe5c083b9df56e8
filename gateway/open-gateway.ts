/** The gateway with its own accounts and reports over a database: what every way of running it shares. */

import type postgres from "postgres";
import { Gauge, type Registry } from "prom-client";
import { defaultLimits } from "./config.ts";
import { createGateway, type Gateway, type GatewayParts } from "./gateway.ts";
import { defaultMeteringLimits, type MeteringLimits } from "./metering/config.ts";
import { type Metering, openMetering } from "./metering/metering.ts";
import { createReports } from "./reports/reports.ts";
import { openResponseStore } from "./responses/store.ts";

export type OpenGatewayParts = Omit<
  GatewayParts,
  "accounts" | "reports" | "responses" | "dataDir"
> & {
  sql: postgres.Sql;
  /** For the spool and `snapshot.json`; one gateway at a time. */
  dataDir: string;
  /** Shares limits and budgets between gateways; absent keeps them in this process. */
  redisUrl?: string | undefined;
  meteringLimits?: Partial<MeteringLimits> | undefined;
};

export type OpenedGateway = Gateway & {
  /** Everything settled so far is in the database. */
  flush(): Promise<void>;
};

/**
 * `stop` also empties the spool into the database, if that answers, and leaves `sql` open.
 * @throws Error when another process owns the data folder
 */
export async function openGateway(parts: OpenGatewayParts): Promise<OpenedGateway> {
  const { sql, dataDir, logger, now = Date.now } = parts;
  let metering: Metering | undefined;
  const { responseRetentionDays, historyBytesMax, responseStoreTimeoutMs } = {
    ...defaultLimits,
    ...parts.limits,
  };
  const gateway = await createGateway({
    ...parts,
    ...(responseRetentionDays > 0 && {
      responses: openResponseStore({
        sql,
        now,
        retentionMs: responseRetentionDays * dayMs,
        historyBytesMax,
        timeoutMs: responseStoreTimeoutMs,
      }),
    }),
    async accounts({ prices }) {
      metering = await openMetering({
        dataDir,
        sql,
        redisUrl: parts.redisUrl,
        prices,
        now,
        limits: meteringLimitsOf(parts),
        onError: (error) =>
          logger.warn({ error: String(error) }, "metering works around a failure"),
      });
      return metering.accounts;
    },
    reports: ({ identity }) => {
      const reports = createReports({
        sql,
        authenticate: (authorization) => identity.identify(authorization),
        now,
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
  return {
    ...gateway,
    flush: async () => opened?.flush(),
    async stop() {
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

const dayMs = 24 * 60 * 60_000;
/** For what comes before the attempts and after them. */
const settleMs = 60_000;

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
