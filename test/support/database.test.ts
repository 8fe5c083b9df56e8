import { expect, test } from "vitest";
import { withDatabase } from "./database.ts";

test("two pools see the same database", async () => {
  await withDatabase(async ({ sql, connect }) => {
    await sql`create table kept (id int primary key)`;
    await connect()`insert into kept values (1)`;
    expect(await sql`select id from kept`).toEqual([{ id: 1 }]);
  });
});

test("queries of many pools at one time each get their own answer", async () => {
  await withDatabase(async ({ connect }) => {
    const pools = [connect(), connect(), connect(), connect()];
    const answers = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const column = `c${i}`;
        // `unsafe` with values uses the unnamed statement, as drizzle does.
        const rows = await pools[i % 4]!.unsafe(`select $1::int as ${column}`, [i]);
        return rows[0]?.[column];
      }),
    );
    expect(answers).toEqual(Array.from({ length: 200 }, (_, i) => i));
  });
});

test("a failed query of one pool does not swallow another's", async () => {
  await withDatabase(async ({ connect }) => {
    const [broken, sound] = [connect(), connect()];
    const outcomes = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        i % 2 === 0
          ? broken.unsafe("select 1 / $1::int", [0]).catch((error: Error) => error.message)
          : sound.unsafe("select $1::int as n", [i]).then((rows) => rows[0]?.n),
      ),
    );
    expect(outcomes).toEqual(
      Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? "division by zero" : i)),
    );
  });
});
