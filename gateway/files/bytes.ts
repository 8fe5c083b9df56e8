/** Bytes of files in the database, as rows of 256 KiB: whichever gateway took them in, each finds them. */
import { createHash } from "node:crypto";
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";

/** The database, or a transaction in it. */
export type Queryable = postgres.Sql | postgres.TransactionSql;

export type Written = { bytes: number; sha256: string };

const chunkBytes = 256 << 10;

/**
 * Writes chunk by chunk as the source gives them; of an owner that fails in the middle the caller removes
 * what was written.
 * @param tooLarge thrown when the source has more than `bytesMax`
 */
export async function writeBytes(
  sql: postgres.Sql,
  ownerId: string,
  source: AsyncIterable<Uint8Array>,
  { bytesMax, tooLarge }: { bytesMax: number; tooLarge: () => HubError },
): Promise<Written> {
  const hash = createHash("sha256");
  let [bytes, position] = [0, 0];
  for await (const chunk of inChunks(source)) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge();
    hash.update(chunk);
    await asked(
      sql`insert into gateway.file_chunks (owner_id, position, bytes)
          values (${ownerId}, ${position++}, ${chunk})`,
    );
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** One chunk at a time, the next one when it is asked for. */
export async function* readBytes(sql: postgres.Sql, ownerId: string): AsyncGenerator<Buffer> {
  for (let position = 0; ; position++) {
    const [row] = await asked(
      sql<{ bytes: Buffer }[]>`select bytes from gateway.file_chunks
        where owner_id = ${ownerId} and position = ${position}`,
    );
    if (!row) return;
    yield Buffer.from(row.bytes);
  }
}

/**
 * A question to the database of files.
 * @throws HubError `storage_full`, `database_unavailable`
 */
export async function asked<T>(question: PromiseLike<T>): Promise<T> {
  try {
    return await question;
  } catch (cause) {
    if (cause instanceof HubError) throw cause;
    const { code } = cause as { code?: unknown };
    // SQLSTATE 53100 is `disk_full`.
    if (code === "53100") {
      throw new HubError("storage_full", "The database that keeps files is full.", {
        cause,
        retryAfterMs: 60_000,
      });
    }
    throw new HubError("database_unavailable", "The database that keeps files does not answer.", {
      cause,
      retryAfterMs: 1000,
    });
  }
}

/** Network chunks are of any size; rows are of one. */
async function* inChunks(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let held: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of source) {
    held.push(piece);
    bytes += piece.length;
    if (bytes < chunkBytes) continue;
    const all = Buffer.concat(held);
    let at = 0;
    for (; all.length - at >= chunkBytes; at += chunkBytes) {
      yield all.subarray(at, at + chunkBytes);
    }
    held = [all.subarray(at)];
    bytes = all.length - at;
  }
  if (bytes > 0) yield Buffer.concat(held);
}
