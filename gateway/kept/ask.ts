/** Questions to the database that clients wait for: each ends in time, on the database's side too. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";

/** Runs statements as one transaction. @throws HubError `database_unavailable`, `storage_full`, and what `use` throws of its own */
export type Ask = <T>(use: (transaction: postgres.TransactionSql) => Promise<T>) => Promise<T>;

/**
 * @param timeoutMs for one question; the database gives up its statement then, so that none holds a connection
 * @param what for the error's message, such as "responses"
 */
export function openAsk(
  sql: postgres.Sql,
  { timeoutMs, what }: { timeoutMs: number; what: string },
): Ask {
  return async (use) => {
    let timer: NodeJS.Timeout | undefined;
    let late = false;
    const asking = sql.begin(async (transaction) => {
      // Whoever waited for a connection until now has been told that nothing came of it.
      if (late) throw new Error("too late");
      await transaction.unsafe(`set local statement_timeout = ${Math.ceil(timeoutMs)}`);
      return use(transaction);
    }) as ReturnType<typeof use>;
    const tooLate = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        late = true;
        reject(new Error(`no answer within ${timeoutMs} ms`));
      }, timeoutMs);
    });
    try {
      return await Promise.race([asking, tooLate]);
    } catch (cause) {
      // Our own mistakes are none of the database's.
      const { code } = cause as { code?: unknown };
      const isDatabases = late || typeof code === "string";
      if (cause instanceof HubError || !isDatabases) throw cause;
      if (code === diskFull) {
        const message = `The database that keeps ${what} is full.`;
        throw new HubError("storage_full", message, { cause, retryAfterMs: 60_000 });
      }
      throw new HubError("database_unavailable", `The store of ${what} does not answer.`, {
        cause,
        retryAfterMs: 1000,
      });
    } finally {
      clearTimeout(timer);
    }
  };
}

/** SQLSTATE */
const diskFull = "53100";

/** The database's texts have no such character, and it would refuse the question. */
export function mayBeId(id: string): boolean {
  return id.length <= 512 && !id.includes("\0");
}
