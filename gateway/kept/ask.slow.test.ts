/** Questions that the database is slow to answer. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../../test/support/database.ts";
import { openAsk } from "./ask.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
  await database.sql`create table things (id integer primary key)`;
});
afterAll(() => database.close());

test("the database is told how long a statement may take, and forgets it with the transaction", async () => {
  const ask = openAsk(database.sql, { timeoutMs: 1234, what: "things" });
  const told = await ask((transaction) => transaction`show statement_timeout`);
  expect(told).toEqual([{ statement_timeout: "1234ms" }]);
  expect(await database.sql`show statement_timeout`).toEqual([{ statement_timeout: "0" }]);
});

test("who waited too long for a connection is told so, and nothing comes of it later", async () => {
  const sql = database.connect();
  const ask = openAsk(sql, { timeoutMs: 50, what: "things" });
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  // All connections of this pool.
  const holding = Array.from({ length: sql.options.max }, () => sql.begin(() => held));
  await expect(
    ask((transaction) => transaction`insert into things values (1)`),
  ).rejects.toMatchObject({ code: "database_unavailable", status: 503 });
  release();
  await Promise.all(holding);
  expect(await sql`select * from things`).toEqual([]);
});

test("our own mistakes are none of the database's", async () => {
  const ask = openAsk(database.sql, { timeoutMs: 1000, what: "things" });
  const mistake = new TypeError("not a function");
  await expect(ask(() => Promise.reject(mistake))).rejects.toBe(mistake);
  await expect(ask((transaction) => transaction`select nonsense`)).rejects.toMatchObject({
    code: "database_unavailable",
  });
});

// PGlite has one session, in which nobody can hold up somebody else.
describe.skipIf(!process.env.TEST_DATABASE_URL)("on Postgres", () => {
  test("a statement that hangs is ended, and its connection is free", async () => {
    const sql = database.connect();
    const ask = openAsk(sql, { timeoutMs: 200, what: "things" });
    await database.sql.begin(async (locking) => {
      await locking`lock table things in access exclusive mode`;
      const hanging = Array.from({ length: sql.options.max }, () =>
        ask((transaction) => transaction`insert into things values (2)`),
      );
      for (const one of await Promise.allSettled(hanging)) expect(one.status).toBe("rejected");
      expect(await sql`select 1 as free`).toEqual([{ free: 1 }]);
    });
    expect(await sql`select * from things`).toEqual([]);
  });
});
