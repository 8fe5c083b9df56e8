/** Opens the registry's own schema over a pool of connections and brings it up to date. */
import { fileURLToPath } from "node:url";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import type postgres from "postgres";
import { databaseErrorCode } from "../sdk/protocol/database-errors.ts";

export type Database = PostgresJsDatabase;
export type Transaction = Parameters<Parameters<Database["transaction"]>[0]>[0];
/** What can be asked; a transaction where several answers must agree. */
export type Queryable = Pick<Database, "select" | "selectDistinctOn" | "execute">;

/**
 * @param sql a pool to Postgres, or to PGlite behind its socket; closed by the caller, and given to
 *   the registry alone: drizzle changes how the pool reads and writes dates
 */
export async function openDatabase(sql: postgres.Sql): Promise<Database> {
  const db = drizzle(sql);
  for (let attempt = 1; ; attempt++) {
    try {
      await migrate(db, { migrationsFolder, migrationsTable: "registry_migrations" });
      return db;
    } catch (error) {
      // Processes that start together make the same objects. The next attempt finds them made.
      if (attempt === attemptsMax || !madeByAnother.has(databaseErrorCode(error) ?? ""))
        throw error;
    }
  }
}

const migrationsFolder = fileURLToPath(new URL("./migrations", import.meta.url));
const attemptsMax = 5;
/** SQLSTATE: unique_violation in the catalogue, duplicate_schema, duplicate_table, duplicate_object. */
const madeByAnother = new Set(["23505", "42P06", "42P07", "42710"]);
