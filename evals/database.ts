/** Opens evals' own schema over a pool of connections and brings it up to date. */
import { fileURLToPath } from "node:url";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import type postgres from "postgres";

export type Database = PostgresJsDatabase;

/**
 * @param sql  a pool to Postgres, or to PGlite behind its socket; closed by the caller, and given to
 *   evals alone: drizzle changes how the pool reads and writes dates
 */
export async function openDatabase(sql: postgres.Sql): Promise<Database> {
  const db = drizzle(sql);
  await migrate(db, { migrationsFolder, migrationsTable: "evals_migrations" });
  return db;
}

const migrationsFolder = fileURLToPath(new URL("./migrations", import.meta.url));
