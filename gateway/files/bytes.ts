/** Bytes of files in the database, as rows of 256 KiB: whichever gateway took them in, each finds them. */
import { createHash } from "node:crypto";
import type postgres from "postgres";
import type { HubError } from "../../sdk/protocol/errors.ts";
import { type Ask, openAsk } from "../kept/ask.ts";

/** Questions about files, and about batches, which read and write them. */
export type FileAsks = {
  ask: Ask;
  /** For what moves or removes as many rows as a file has. */
  askMuch: Ask;
};

export type FileTimeouts = { fileStoreTimeoutMs: number; fileMoveTimeoutMs: number };

export function openFileAsks(sql: postgres.Sql, limits: FileTimeouts, what = "files"): FileAsks {
  return {
    ask: openAsk(sql, { timeoutMs: limits.fileStoreTimeoutMs, what }),
    askMuch: openAsk(sql, { timeoutMs: limits.fileMoveTimeoutMs, what }),
  };
}

export type Written = { bytes: number; sha256: string };

const chunkBytes = 256 << 10;

/**
 * Writes chunk by chunk as the source gives them; of an owner that fails in the middle the caller removes
 * what was written.
 * @param tooLarge thrown when the source has more than `bytesMax`
 */
export async function writeBytes(
  ask: Ask,
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
    await ask(
      (sql) => sql`insert into gateway.file_chunks (owner_id, position, bytes)
        values (${ownerId}, ${position++}, ${chunk})`,
    );
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** One chunk at a time, the next one when it is asked for. */
export async function* readBytes(ask: Ask, ownerId: string): AsyncGenerator<Buffer> {
  for (let position = 0; ; position++) {
    const [row] = await ask(
      (sql) => sql<{ bytes: Buffer }[]>`select bytes from gateway.file_chunks
        where owner_id = ${ownerId} and position = ${position}`,
    );
    if (!row) return;
    yield Buffer.from(row.bytes);
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
