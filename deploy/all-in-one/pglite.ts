/** The embedded database: PGlite in a worker, reached by the same `postgres` driver as a real Postgres. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import postgres from "postgres";
import { StartError } from "../settings/load.ts";
import { startSourceWorker } from "./source-worker.ts";

export type EmbeddedDatabase = {
  /** A connection pool of its own for each service; the engine runs one statement at a time. */
  connect(): postgres.Sql;
  close(): Promise<void>;
};

const CONNECTIONS_MAX = 16;

/**
 * Opens the database in `folder`, making it when it is not there. The socket lies in a folder that only
 * this user may enter, because PGlite asks for no password.
 * @throws StartError when the database cannot be opened
 */
export async function openEmbeddedDatabase(folder: string): Promise<EmbeddedDatabase> {
  const socketFolder = await mkdtemp(join(tmpdir(), "switchyard-"));
  await chmod(socketFolder, 0o700);
  const worker = startSourceWorker(new URL("./pglite-worker.ts", import.meta.url), {
    workerData: {
      folder,
      socketPath: join(socketFolder, ".s.PGSQL.5432"),
      connectionsMax: CONNECTIONS_MAX,
    },
  });
  await answer(worker, "ready", folder);

  const pools: postgres.Sql[] = [];
  return {
    connect() {
      const sql = postgres({
        host: socketFolder,
        port: 5432,
        username: "postgres",
        database: "postgres",
        max: 1,
        onnotice: () => {},
      });
      pools.push(sql);
      return sql;
    },
    async close() {
      await Promise.all(pools.map((pool) => pool.end({ timeout: 2 })));
      const closed = answer(worker, "closed", folder);
      worker.postMessage("close");
      await closed;
      await worker.terminate();
      await rm(socketFolder, { recursive: true, force: true });
    },
  };
}

function answer(worker: Worker, expected: string, folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once("message", (message) => {
      if (message === expected) resolve();
    });
    worker.once("error", (cause) =>
      reject(
        new StartError(
          `the embedded database in ${folder} cannot be opened: ${cause.message}. If it was damaged, restore the folder from a backup.`,
          { cause },
        ),
      ),
    );
  });
}
