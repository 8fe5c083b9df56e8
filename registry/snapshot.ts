/** All policy at one version, for gateways: built once per version, and waited for by long poll. */
import { and, asc, desc, gt, inArray, isNull, max, or, sql } from "drizzle-orm";
import type { Snapshot } from "../sdk/protocol/catalog.ts";
import { allAdapters } from "./adapters/read.ts";
import type { ChangeLog } from "./change.ts";
import type { Database, Queryable } from "./db.ts";
import { getOrganization } from "./organization.ts";
import { namesOfOwners } from "./people/owner-names.ts";
import { toApiKey, toMeasurement, toModel, toPrice, toProject, toRoute } from "./rows.ts";
import {
  apiKeys,
  events,
  measurements,
  models,
  prices,
  projects,
  routes,
  serviceAccounts,
  users,
} from "./schema.ts";

export type SnapshotFeedOptions = {
  db: Database;
  changes: ChangeLog;
  now: () => number;
  /** How soon a change that another process made is seen. */
  pollMs: number;
  /** How long a key that has ended is still told of. */
  endedKeysMs: number;
};

export class SnapshotFeed {
  readonly #options: SnapshotFeedOptions;
  #latest: Promise<{ version: number; json: string }> | undefined;

  constructor(options: SnapshotFeedOptions) {
    this.#options = options;
  }

  /**
   * The snapshot as JSON once its version is another than `after`, or undefined after `waitMs`. A version
   * below `after` counts as another: the database was put back to an earlier state.
   * @param after absent answers at once
   */
  async next(
    after: number | undefined,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const deadline = performance.now() + waitMs;
    for (;;) {
      // Listening begins before looking, so that no change falls between.
      const change = this.#nextChange(signal, deadline);
      try {
        const version = await newestVersion(this.#options.db);
        if (version !== after) return (await this.#build(version)).json;
        if (signal.aborted || performance.now() >= deadline) return undefined;
        await change.happened;
      } finally {
        change.stop();
      }
    }
  }

  /** Waits for a change of this process, the next poll, the deadline or the caller's leaving. */
  #nextChange(signal: AbortSignal, deadline: number): { happened: Promise<void>; stop(): void } {
    const { changes, pollMs } = this.#options;
    let stop = () => {};
    const happened = new Promise<void>((resolve) => {
      const timer = setTimeout(
        resolve,
        Math.max(1, Math.min(pollMs, deadline - performance.now())),
      );
      const unsubscribe = changes.onChange(resolve);
      const leave = () => resolve();
      signal.addEventListener("abort", leave);
      stop = () => {
        clearTimeout(timer);
        unsubscribe();
        signal.removeEventListener("abort", leave);
      };
    });
    return { happened, stop };
  }

  /** Many gateways ask for the same version; one reads it. */
  async #build(version: number): Promise<{ version: number; json: string }> {
    const latest = await this.#latest?.catch(() => undefined);
    if (latest?.version === version) return latest;
    this.#latest = readSnapshot(this.#options).then((snapshot) => ({
      version: snapshot.version,
      json: JSON.stringify(snapshot),
    }));
    return this.#latest;
  }
}

/** Everything as of one moment: a repeatable read, so that the version is that of all the rest. */
async function readSnapshot({ db, now, endedKeysMs }: SnapshotFeedOptions): Promise<Snapshot> {
  const nowMs = now();
  return db.transaction(
    async (tx) => {
      const ownerNames = await namesOfOwners(tx);
      const keys = await keysToTell(tx, new Date(nowMs - endedKeysMs));
      return {
        version: await newestVersion(tx),
        generatedAt: new Date(nowMs).toISOString(),
        organization: await getOrganization(tx),
        projects: (await tx.select().from(projects).orderBy(asc(projects.id))).map(toProject),
        keys: keys.map((row) => {
          const ownerName = ownerNames.get(row.ownerId ?? "");
          return { ...toApiKey(row), ...(ownerName !== undefined && { ownerName }) };
        }),
        models: (await tx.select().from(models).orderBy(asc(models.id))).map(toModel),
        adapters: await allAdapters(tx),
        routes: (await tx.select().from(routes).orderBy(asc(routes.id))).map(toRoute),
        prices: (await latestPrices(tx)).map(toPrice),
        measurements: (await latestMeasurements(tx)).map(toMeasurement),
      };
    },
    { isolationLevel: "repeatable read", accessMode: "read only" },
  );
}

/**
 * Without those that ended before: who still sends one is told that it is unknown. Of each owner who is still there the
 * newest key stays, because reports have the owner's name by it.
 */
function keysToTell(db: Queryable, endedBefore: Date) {
  const { id, ownerId, revokedAt, expiresAt } = apiKeys;
  const newestOfOwners = db
    .select({ id: max(id) })
    .from(apiKeys)
    .where(
      or(
        inArray(ownerId, db.select({ id: users.id }).from(users)),
        inArray(ownerId, db.select({ id: serviceAccounts.id }).from(serviceAccounts)),
      ),
    )
    .groupBy(ownerId);
  const goesOn = and(
    or(isNull(revokedAt), gt(revokedAt, endedBefore)),
    or(isNull(expiresAt), gt(expiresAt, endedBefore)),
  );
  return db
    .select()
    .from(apiKeys)
    .where(or(goesOn, inArray(id, newestOfOwners)))
    .orderBy(asc(id));
}

/** By id, as people know them. */
async function newestVersion(db: Queryable): Promise<number> {
  const [row] = await db
    .select({ version: max(events.id) })
    .from(events)
    // Who read what is told among the changes and is none.
    .where(sql`${events.type} not like 'content.%'`);
  return row?.version ?? 0;
}

/** Of rows that correct each other, the last. */
function latestPrices(db: Queryable) {
  return db
    .selectDistinctOn([prices.model, prices.meter, prices.tier, prices.validFrom])
    .from(prices)
    .orderBy(
      prices.model,
      prices.meter,
      prices.tier,
      prices.validFrom,
      desc(prices.recordedAt),
      desc(prices.id),
    );
}

/** Of each project's measurements of one candidate on one dataset, the newest; older ones decide nothing. */
function latestMeasurements(db: Queryable) {
  const { projectId, task, datasetDigest, scorer, model, adapterDigest } = measurements;
  const subject = [projectId, task, datasetDigest, scorer, model, adapterDigest];
  return db
    .selectDistinctOn(subject)
    .from(measurements)
    .orderBy(...subject, desc(measurements.measuredAt), desc(measurements.id));
}
