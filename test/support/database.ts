/** A database for one test: PGlite in this process by default, Postgres where `TEST_DATABASE_URL` names one. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import postgres from "postgres";
import { withWholeExchanges } from "../../deploy/all-in-one/whole-exchanges.ts";

export type TestDatabase = {
  kind: "pglite" | "postgres";
  sql: postgres.Sql;
  /** A second, independent connection pool to the same database. */
  connect(): postgres.Sql;
  close(): Promise<void>;
};

/** Opens an empty database; the caller closes it. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const url = process.env.TEST_DATABASE_URL;
  return url === undefined || url === "" ? openPglite() : openPostgres(url);
}

/** Runs `use` on an empty database that is closed afterwards, whatever happens. */
export async function withDatabase<T>(use: (database: TestDatabase) => Promise<T>): Promise<T> {
  const database = await openTestDatabase();
  try {
    return await use(database);
  } finally {
    await database.close();
  }
}

export type PostgresDatabase = { url: string; drop(): Promise<void> };

/** An empty database of its own on a Postgres server, for a process that is given its URL. */
export async function createPostgresDatabase(server: string): Promise<PostgresDatabase> {
  const name = `switchyard_test_${randomBytes(8).toString("hex")}`;
  const admin = postgres(server, { max: 1, onnotice: () => {} });
  await admin.unsafe(`create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    async drop() {
      await admin.unsafe(`drop database if exists ${name} with (force)`);
      await admin.end({ timeout: 1 });
    },
  };
}

async function openPglite(): Promise<TestDatabase> {
  const folder = await mkdtemp(join(tmpdir(), "switchyard-test-"));
  const db = await PGlite.create();
  const server = new PGLiteSocketServer({
    db: withWholeExchanges(db),
    path: join(folder, ".s.PGSQL.5432"),
    maxConnections: 16,
  });
  await server.start();
  const pools: postgres.Sql[] = [];
  const connect = () => {
    const sql = postgres({
      host: folder,
      port: 5432,
      username: "postgres",
      database: "postgres",
      max: 1,
      onnotice: () => {},
    });
    pools.push(sql);
    return sql;
  };
  return {
    kind: "pglite",
    sql: connect(),
    connect,
    async close() {
      await Promise.all(pools.map((pool) => pool.end({ timeout: 1 })));
      await server.stop();
      await db.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function openPostgres(server: string): Promise<TestDatabase> {
  const database = await createPostgresDatabase(server);
  const pools: postgres.Sql[] = [];
  const connect = () => {
    const sql = postgres(database.url, { max: 4, onnotice: () => {} });
    pools.push(sql);
    return sql;
  };
  return {
    kind: "postgres",
    sql: connect(),
    connect,
    async close() {
      await Promise.all(pools.map((pool) => pool.end({ timeout: 1 })));
      await database.drop();
    },
  };
}
