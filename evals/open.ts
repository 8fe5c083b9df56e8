/** Puts evals together from what a process has: a database, a folder, and the ways to gateway and registry. */
import type { Logger } from "pino";
import type postgres from "postgres";
import type { Fetcher } from "../sdk/protocol/http.ts";
import { type AppParts, createApp } from "./app.ts";
import { defaultLimits, type Limits } from "./config.ts";
import { openDatabase } from "./database.ts";
import { openDatasets } from "./datasets/datasets.ts";
import { openFileStore } from "./datasets/file-store.ts";
import { registryClient } from "./registry-client.ts";
import { openRuns } from "./runs/runs.ts";
import { openRunStore } from "./runs/store.ts";

export type EvalsOptions = {
  /** A pool for evals alone. */
  sql: postgres.Sql;
  /** Where dataset files are kept. */
  datasetFolder: string;
  gateway: Fetcher;
  registry: Fetcher;
  log: Pick<Logger, "error">;
  limits?: Partial<Limits>;
  now?: () => number;
  monotonicNow?: () => number;
  random?: () => number;
};

export type Evals = {
  app: ReturnType<typeof createApp>;
  /** Stops the runs, which can be resumed; the pool is the caller's to close, afterwards. */
  close(): Promise<void>;
};

/** Brings the schema up to date and marks runs that an earlier process left behind as interrupted. */
export async function openEvals(options: EvalsOptions): Promise<Evals> {
  const { gateway, log, now = Date.now } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const db = await openDatabase(options.sql);
  const registry = registryClient(options.registry);
  const datasets = openDatasets({ db, files: openFileStore(options.datasetFolder), limits, now });
  const store = openRunStore(db, now);
  const runs = await openRuns({
    store,
    datasets,
    registry,
    gateway,
    limits,
    now,
    monotonicNow: options.monotonicNow ?? (() => performance.now()),
    random: options.random ?? Math.random,
    log,
  });
  const parts: AppParts = { registry, datasets, runs, store, limits, log };
  return { app: createApp(parts), close: () => runs.close() };
}
