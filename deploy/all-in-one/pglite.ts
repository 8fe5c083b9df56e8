/** The embedded database: PGlite in a worker, reached by the same `postgres` driver as a real Postgres. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startWorker as startThread } from "../../adapter-server/start-worker.ts";
import { StartError } from "../settings/load.ts";
import { keepWorker } from "./kept-worker.ts";

export type EmbeddedDatabase = {
  /** A connection pool of its own for each service; the engine runs one statement at a time. */
  connect(): postgres.Sql;
  close(): Promise<void>;
};

const CONNECTIONS_MAX = 16;

export type EmbeddedOptions = {
  /** Told when the thread dies; it is started anew, and statements under way fail as on a lost connection. */
  onDeath: (cause: unknown) => void;
  startWorker?: typeof startThread;
};

/**
 * Opens the database in `folder`, making it when it is not there. The socket lies in a folder that only
 * this user may enter, because PGlite asks for no password.
 * @throws StartError when the database cannot be opened
 */
export async function openEmbeddedDatabase(
  folder: string,
  { onDeath, startWorker = startThread }: EmbeddedOptions,
): Promise<EmbeddedDatabase> {
  const socketFolder = await mkdtemp(join(tmpdir(), "switchyard-"));
  await chmod(socketFolder, 0o700);
  const socketPath = join(socketFolder, ".s.PGSQL.5432");
  const workerData = { folder, socketPath, connectionsMax: CONNECTIONS_MAX };
  const start = () => startWorker(new URL("./pglite-worker.ts", import.meta.url), { workerData });
  const worker = await keepWorker({ start, onDeath }).catch(async (cause: unknown) => {
    await rm(socketFolder, { recursive: true, force: true });
    throw cannotOpen(folder, cause);
  });

  const pools: postgres.Sql[] = [];
  return {
    connect() {
      const sql = postgres({
        host: socketFolder,
        port: 5432,
        username: "postgres",
        database: "postgres",
        max: 1,
        // It is on this machine, and back within a second or two when its thread died.
        backoff: () => 0.2,
        onnotice: () => {},
      });
      pools.push(sql);
      return sql;
    },
    async close() {
      await Promise.all(pools.map((pool) => pool.end({ timeout: 2 })));
      await worker.close();
      await rm(socketFolder, { recursive: true, force: true });
    },
  };
}

function cannotOpen(folder: string, cause: unknown): StartError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StartError(
    `the embedded database in ${folder} cannot be opened: ${reason}. If it was damaged, restore the folder from a backup.`,
    { cause },
  );
}
