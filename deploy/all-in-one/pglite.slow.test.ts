import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startWorker } from "../../adapter-server/start-worker.ts";
import { openEmbeddedDatabase } from "./pglite.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-pglite-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("a database whose thread dies comes back with what was committed, and its clients with it", async () => {
  const workers: Worker[] = [];
  const deaths: unknown[] = [];
  const database = await openEmbeddedDatabase(folder, {
    onDeath: (cause) => deaths.push(cause),
    startWorker: (...given) => {
      const worker = startWorker(...given);
      workers.push(worker);
      return worker;
    },
  });
  const sql = database.connect();
  await sql`create table kept (n int)`;
  await sql`insert into kept values (1)`;

  await workers[0]?.terminate();
  const rows = await eventually(() => sql`select n from kept`);
  expect(rows).toEqual([{ n: 1 }]);
  expect(deaths).toHaveLength(1);
  expect(workers).toHaveLength(2);
  await database.close();
});

test("a folder that holds no database is told as such, and leaves no thread behind", async () => {
  const opening = openEmbeddedDatabase(join("/dev/null", "x"), { onDeath: () => {} });
  await expect(opening).rejects.toThrow("the embedded database in /dev/null/x cannot be opened");
});

/** While the database is away, statements fail at once. */
async function eventually<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
