/** The database as configured: a Postgres of `DATABASE_URL`, else PGlite in the data folder. */
import { join } from "node:path";
import type { Logger } from "pino";
import postgres from "postgres";
import { openEmbeddedDatabase } from "./pglite.ts";

export type Database = {
  /** A pool of its own for each service. */
  connect(): postgres.Sql;
  /** Whether it may be away while this process runs. */
  isRemote: boolean;
  close(): Promise<void>;
};

const CONNECTIONS_MAX = 8;
const CONNECT_TIMEOUT_SECONDS = 5;

export type DatabaseOptions = {
  dataDir: string;
  /** `DATABASE_URL` */
  url: string | undefined;
  logger: Logger;
};

/** A remote one is not spoken to yet. @throws StartError when the embedded one cannot be opened */
export async function openDatabase({ dataDir, url, logger }: DatabaseOptions): Promise<Database> {
  if (!url) {
    const embedded = await openEmbeddedDatabase(join(dataDir, "pglite"), {
      onDeath: (cause) =>
        logger.error({ error: String(cause) }, "the embedded database died and is started anew"),
    });
    return { ...embedded, isRemote: false };
  }
  const pools: postgres.Sql[] = [];
  return {
    isRemote: true,
    connect() {
      const sql = postgres(url, {
        max: CONNECTIONS_MAX,
        connect_timeout: CONNECT_TIMEOUT_SECONDS,
        onnotice: () => {},
      });
      pools.push(sql);
      return sql;
    },
    async close() {
      await Promise.all(pools.map((pool) => pool.end({ timeout: 5 })));
    },
  };
}
