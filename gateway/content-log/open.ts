/** Opens the log of contents on a database, with its metrics. */
import type postgres from "postgres";
import { Counter, Gauge, type Registry } from "prom-client";
import type { GatewayLimits } from "../config.ts";
import { ContentLog, type ContentLogOptions } from "./content-log.ts";
import type { MasterKeys } from "./master-keys.ts";
import { ContentStore } from "./store.ts";

type Options = Pick<ContentLogOptions, "projects" | "logger" | "now" | "random"> & {
  metrics: Registry;
  limits: GatewayLimits;
};

export function openContentLog(
  { sql, masterKeys }: { sql: postgres.Sql; masterKeys: MasterKeys },
  { metrics, limits, ...options }: Options,
): ContentLog {
  const registers = [metrics];
  const store = new ContentStore({
    sql,
    masterKeys,
    now: options.now,
    timeoutMs: limits.responseStoreTimeoutMs,
    rowsMax: limits.contentRowsMax,
  });
  const log = new ContentLog({
    ...options,
    store,
    limits,
    canSeal: masterKeys.any,
    kept: new Counter({
      name: "gateway_contents_kept",
      help: "Requests of which content was kept.",
      registers,
    }),
    dropped: new Counter({
      name: "gateway_contents_dropped",
      help: "Requests of which content was to be kept and is not, by why.",
      labelNames: ["reason"],
      registers,
    }),
  });
  new Gauge({
    name: "gateway_contents_bytes",
    help: "What contents take in memory until they are in the database.",
    registers,
    collect() {
      this.set(log.bytes);
    },
  });
  return log;
}
