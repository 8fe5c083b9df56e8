/** Puts the registry's parts together over a database and a data folder; for its own `main.ts` and for one process with all services. */
import type { Logger } from "pino";
import type postgres from "postgres";
import { createApp } from "./app.ts";
import { ArtifactStore } from "./artifacts/store.ts";
import {
  applyDeclared,
  type BootstrapInput,
  type Bootstrapped,
  bootstrap,
  type Declared,
} from "./bootstrap.ts";
import { createChangeLog } from "./change.ts";
import { defaultLimits, type RegistryLimits } from "./config.ts";
import { openDatabase } from "./db.ts";
import { SnapshotFeed } from "./snapshot.ts";

export type RegistryOptions = {
  /** A pool for the registry alone; the caller closes it. */
  sql: postgres.Sql;
  /** Artifacts go to `artifacts/` below it. */
  dataDir: string;
  operatorKey: string;
  logger: Logger;
  limits?: RegistryLimits;
  now?: () => number;
};

export type Registry = {
  app: ReturnType<typeof createApp>;
  bootstrap(input: BootstrapInput): Promise<Bootstrapped>;
  applyDeclared(declared: Declared): Promise<void>;
};

/** Brings the schema up to date. Nothing runs in the background, so there is nothing to close. */
export async function openRegistry(options: RegistryOptions): Promise<Registry> {
  const { sql, dataDir, operatorKey, logger, limits = defaultLimits, now = Date.now } = options;
  const db = await openDatabase(sql);
  const changes = createChangeLog(db, now);
  const artifacts = new ArtifactStore(dataDir);
  const { snapshotPollMs: pollMs, endedKeysMs } = limits;
  const snapshots = new SnapshotFeed({ db, changes, now, pollMs, endedKeysMs });
  return {
    app: createApp({ db, changes, artifacts, snapshots, operatorKey, limits, now, logger }),
    bootstrap: (input) => bootstrap(changes, input),
    applyDeclared: (declared) => applyDeclared(changes, declared),
  };
}
