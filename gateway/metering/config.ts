/** Every bound of metering, each with its name. Times are milliseconds, sizes bytes. */
import { z } from "zod";

export const meteringLimits = z.strictObject({
  /**
   * A reservation that nobody settles gives its money and its place back after this long, or after the
   * longest time that a request may take, where that is more.
   */
  reservationTtlMs: size(15 * 60_000),
  /** One settled request on disk; a larger one is written without its decision record. */
  recordBytesMax: size(256 << 10),
  /**
   * Rate limits that are counted in this process at one time, end users' and models' each for itself; beyond it the
   * one longest unused is forgotten.
   */
  limitBucketsMax: size(100_000),
  /** Budgets that are counted in this process at one time; of one that is forgotten the ledger knows what is spent. */
  budgetCountersMax: size(100_000),
  /** Alerts of budgets that wait for the database, or for the webhook. */
  budgetAlertsMax: size(10_000),
  /** How long the webhook may take for one. */
  budgetAlertTimeoutMs: size(10_000),
  /** For so long an alert that the webhook does not take is posted again, at longer and longer intervals. */
  budgetAlertRetryForMs: size(3_600_000),
  /** How often alerts are looked for that another process wrote down and did not live to post. */
  budgetAlertPollMs: size(5_000),
  /**
   * Budgets of which this process holds money ahead of its requests, where it shares them by Redis; with 0 each
   * request asks there.
   */
  budgetLeasesMax: z.int().nonnegative().default(256),
  /** How often it tells Redis what it spent of them, and gives back what others want. */
  budgetLeaseTickMs: size(100),
  /** How long it gives of them without a word with Redis. */
  budgetLeaseMs: size(5_000),
  /** What was not used for so long is given back. */
  budgetLeaseIdleMs: size(1_000),
  /** How long a request may wait for money that other processes hold and do not need, before it is refused. */
  budgetRecallMs: size(1_000),
  /** How long a request waits for the ledger to say what its budgets have spent. */
  budgetLoadTimeoutMs: size(2_000),
  /** A segment file of the spool is closed and a new one begun at this size. */
  segmentBytesMax: size(4 << 20),
  /** Settled requests that wait on disk for the database; beyond it new requests are refused. */
  spoolBytesMax: size(1 << 30),
  /** Free disk space below which new requests are refused, so that those under way can be settled. */
  freeBytesMin: size(64 << 20),
  /** Records in memory that a failing disk did not take; further ones are lost, and counted. */
  unwrittenBytesMax: size(64 << 20),
  /** How old written records may get before they are forced onto the disk. */
  syncWithinMs: size(20),
  /** How often free space is measured, and a failed write tried again. */
  diskCheckMs: size(1_000),
  /** Records of one insert, and how long the first of them may wait for company. */
  ingestRecordsMax: size(500),
  ingestDelayMs: size(50),
  /** Waits between attempts while the database is down. */
  ingestRetryMs: size(100),
  ingestRetryMsMax: size(5_000),
  /** How often a budget in use is compared with the ledger. */
  rehydrateEveryMs: size(60_000),
  /** How long one Redis call may take before the local stores stand in. */
  redisTimeoutMs: size(250),
  /** How long Redis is left alone after a failure. */
  redisRetryMs: size(1_000),
  /** Share of each rate limit that this process grants alone while Redis is down. */
  redisDownShare: z.number().gt(0).max(1).default(0.5),
  /**
   * What this process grants of hard budgets alone while Redis is down: what the ledger says is left (`ledger`), or no more
   * than it holds ahead (`held`), for as long as it may; then it refuses, and nothing is ever overspent.
   */
  redisDownBudgets: z.enum(["ledger", "held"]).default("ledger"),
});
export type MeteringLimits = z.infer<typeof meteringLimits>;

export const defaultMeteringLimits: MeteringLimits = meteringLimits.parse({});

function size(byDefault: number) {
  return z.int().positive().default(byDefault);
}
