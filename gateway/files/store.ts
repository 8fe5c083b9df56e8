/** Files of projects: taken in as drafts, seen once they are whole, each by its own project alone. */
import type postgres from "postgres";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { sortableText } from "../../sdk/protocol/ids.ts";
import {
  type FileAsks,
  type FileTimeouts,
  openFileAsks,
  readBytes,
  type Written,
  writeBytes,
} from "./bytes.ts";

/** OpenAI's. The last two are written by batches alone. */
export const filePurposes = [
  "assistants",
  "batch",
  "fine-tune",
  "vision",
  "user_data",
  "evals",
] as const;
export type FilePurpose = (typeof filePurposes)[number] | "batch_output";

/** As OpenAI tells of a file; times are seconds since 1970. */
export type FileObject = {
  id: string;
  object: "file";
  bytes: number;
  created_at: number;
  expires_at?: number;
  filename: string;
  purpose: string;
  status: "processed";
};

export type FileFacts = {
  purpose: FilePurpose;
  filename: string;
  /** Seconds; absent leaves it to the purpose. */
  expiresAfter: number | undefined;
};

/** A file that is being written. One of `publish` and `discard` ends it. */
export type FileDraft = {
  id: string;
  /** Once. @throws HubError `request_too_large` */
  write(source: AsyncIterable<Uint8Array>): Promise<Written>;
  /** @throws HubError `request_too_large` for a project that is full */
  publish(facts: FileFacts): Promise<FileObject>;
  discard(): Promise<void>;
};

export type FilePage = {
  limit: number;
  order: "asc" | "desc";
  after?: string | undefined;
  purpose?: string | undefined;
};

export type FileLimits = FileTimeouts & {
  fileBytesMax: number;
  batchFileBytesMax: number;
  projectFilesMax: number;
  projectFileBytesMax: number;
  batchFileRetentionDays: number;
};

export type FileStoreOptions = { sql: postgres.Sql; now: () => number; limits: FileLimits };

export class FileStore {
  readonly #asks: FileAsks;
  readonly #now: () => number;
  readonly #limits: FileLimits;

  constructor({ sql, now, limits }: FileStoreOptions) {
    this.#asks = openFileAsks(sql, limits);
    this.#now = now;
    this.#limits = limits;
  }

  /** @throws HubError `request_too_large` for a project that is full already */
  async begin(projectId: string): Promise<FileDraft> {
    await this.#asks.ask((sql) => this.ensureRoom(sql, projectId, 0));
    return this.#draft(projectId, { bounded: true });
  }

  /** A draft of our own making, such as a batch's output: it is not refused for want of room. */
  beginUnbounded(projectId: string): Promise<FileDraft> {
    return this.#draft(projectId, { bounded: false });
  }

  /** @throws HubError `request_too_large` when so many more bytes are too many for the project */
  async ensureRoom(sql: postgres.TransactionSql, projectId: string, bytes: number): Promise<void> {
    const { projectFilesMax, projectFileBytesMax } = this.#limits;
    const [row] = await sql<{ files: number; bytes: string }[]>`
      select count(*)::int as files, coalesce(sum(bytes), 0)::text as bytes
      from gateway.files where project_id = ${projectId} and is_whole`;
    if ((row?.files ?? 0) >= projectFilesMax) {
      throw tooLarge(`This project has ${projectFilesMax} files, which is the most it may have.`);
    }
    if (Number(row?.bytes ?? 0) + bytes > projectFileBytesMax) {
      throw tooLarge(
        `The files of this project would be more than ${projectFileBytesMax} bytes, which is the most they may be.`,
      );
    }
  }

  /** @throws HubError `not_found` for another project's as for one that never was */
  async get(projectId: string, id: string): Promise<FileObject> {
    const [row] = mayBeId(id)
      ? await this.#asks.ask(
          (sql) => sql`select to_jsonb(file) as file from gateway.files file
            where id = ${id} and project_id = ${projectId} and is_whole
              and (expires_at is null or expires_at > ${this.#at()})`,
        )
      : [];
    if (!row) throw noSuchFile(id);
    return toFile(row.file);
  }

  async list(projectId: string, { limit, order, after, purpose }: FilePage): Promise<FileObject[]> {
    if (after !== undefined && !mayBeId(after)) throw noSuchFile(after, "after");
    const rows = await this.#asks.ask((sql) => {
      // Ids sort by time, whatever the database's collation.
      const beyond =
        after === undefined
          ? sql``
          : order === "asc"
            ? sql`and id > ${after}`
            : sql`and id < ${after}`;
      return sql`select to_jsonb(file) as file from gateway.files file
        where project_id = ${projectId} and is_whole ${beyond}
          and (expires_at is null or expires_at > ${this.#at()})
          ${purpose === undefined ? sql`` : sql`and purpose = ${purpose}`}
        order by id ${order === "asc" ? sql`asc` : sql`desc`} limit ${limit}`;
    });
    return rows.map(({ file }) => toFile(file));
  }

  /** Chunk by chunk; nothing of it is checked, so `get` comes first. */
  read(id: string): AsyncGenerator<Buffer> {
    return readBytes(this.#asks.ask, id);
  }

  /** @throws HubError `not_found`; `invalid_state` while a batch reads it */
  async delete(projectId: string, id: string): Promise<void> {
    await this.get(projectId, id);
    const { removed } = await this.#remove(
      (sql) => sql`id = ${id} and project_id = ${projectId} and ${unused(sql)}`,
    );
    if (removed > 0) return;
    throw new HubError(
      "invalid_state",
      `The file '${id}' is the input of a batch that is not over. Cancel the batch first, or wait for it.`,
    );
  }

  /** Removes what has expired, and drafts whose writer is gone. */
  async sweep(): Promise<void> {
    const stale = this.#at(-draftTtlMs);
    const left: Which = (sql) => sql`not is_whole and created_at < ${stale}`;
    const expired: Which = (sql) => sql`expires_at < ${this.#at()} and ${unused(sql)}`;
    for (const which of [left, expired]) {
      while ((await this.#remove(which)).found === sweptMax);
    }
  }

  async #draft(projectId: string, { bounded }: { bounded: boolean }): Promise<FileDraft> {
    const { ask, askMuch } = this.#asks;
    const id = `file-${sortableText(this.#now())}`;
    await ask(
      (
        sql,
      ) => sql`insert into gateway.files (id, project_id, purpose, filename, bytes, is_whole, created_at)
          values (${id}, ${projectId}, '', '', 0, false, ${this.#at()})`,
    );
    let written: Written | undefined;
    const bytesMax = bounded ? this.#limits.fileBytesMax : Number.POSITIVE_INFINITY;
    return {
      id,
      write: async (source) => {
        written = await writeBytes(ask, id, source, {
          bytesMax,
          tooLarge: () => tooLong(bytesMax),
        });
        return written;
      },
      publish: async (facts) => {
        if (bounded) this.#check(facts, written);
        return askMuch(async (sql) => {
          await sql`select pg_advisory_xact_lock(hashtext(${`files ${projectId}`}))`;
          if (bounded) await this.ensureRoom(sql, projectId, written?.bytes ?? 0);
          return this.publish(sql, id, facts, written);
        });
      },
      discard: async () => {
        await this.#remove((sql) => sql`id = ${id} and not is_whole`);
      },
    };
  }

  /** The last step of a draft, within the transaction of whoever takes it. */
  async publish(
    sql: postgres.TransactionSql,
    id: string,
    { purpose, filename, expiresAfter }: FileFacts,
    { bytes = 0, sha256 = emptySha256 }: Partial<Written> = {},
  ): Promise<FileObject> {
    const seconds = expiresAfter ?? this.#retentionOf(purpose);
    const expiresAt = seconds === undefined ? null : this.#at(seconds * 1000);
    const [row] = await sql`
      update gateway.files as file set is_whole = true, purpose = ${purpose},
        filename = ${filename}, bytes = ${bytes}, sha256 = ${sha256}, expires_at = ${expiresAt}
      where id = ${id} and not is_whole returning to_jsonb(file) as file`;
    // The sweeper took it for one that its writer had left.
    if (!row) throw new HubError("request_cancelled", "The file took too long to arrive.");
    return toFile(row.file);
  }

  #check({ purpose }: FileFacts, written: Written | undefined): void {
    const { batchFileBytesMax } = this.#limits;
    if (purpose === "batch" && (written?.bytes ?? 0) > batchFileBytesMax) {
      throw tooLong(batchFileBytesMax);
    }
  }

  #retentionOf(purpose: FilePurpose): number | undefined {
    const isOfBatch = purpose === "batch" || purpose === "batch_output";
    return isOfBatch ? this.#limits.batchFileRetentionDays * daySeconds : undefined;
  }

  /** One after another, because one alone may be large. @returns how many files, at most `sweptMax` */
  async #remove(which: Which): Promise<{ found: number; removed: number }> {
    const { ask, askMuch } = this.#asks;
    const found = await ask(
      (sql) => sql<{ id: string }[]>`
        select id from gateway.files file where ${which(sql)} limit ${sweptMax}`,
    );
    let removed = 0;
    for (const { id } of found) {
      removed += await askMuch(async (sql) => {
        const { count } = await sql`
          delete from gateway.files file where id = ${id} and ${which(sql)}`;
        if (count > 0) await sql`delete from gateway.file_chunks where owner_id = ${id}`;
        return count;
      });
    }
    return { found: found.length, removed };
  }

  #at(laterMs = 0): string {
    return new Date(this.#now() + laterMs).toISOString();
  }
}

type Which = (sql: postgres.TransactionSql) => postgres.PendingQuery<postgres.Row[]>;

/** Our ids, and those that the official clients' own tests make up. */
export function mayBeId(id: string): boolean {
  return /^[\w-]{1,128}$/.test(id);
}

function noSuchFile(id: string, param?: string): HubError {
  return new HubError("not_found", `No such File object: ${id.slice(0, 100)}`, { param });
}

/** Seconds since 1970, of a moment as the database writes it into JSON. */
export const epochSeconds = z.string().transform((text) => Math.floor(Date.parse(text) / 1000));

function toFile(row: unknown): FileObject {
  const { id, bytes, created_at, expires_at, filename, purpose } = fileRow.parse(row);
  const expires = expires_at === null ? {} : { expires_at };
  return {
    ...{ id, object: "file", bytes, created_at, ...expires, filename, purpose },
    status: "processed",
  };
}

/** What no batch still has to read; the row in question is called `file`. */
function unused(sql: postgres.TransactionSql) {
  return sql`not exists (select 1 from gateway.batches
    where input_file_id = file.id
      and status in ('validating', 'in_progress', 'finalizing', 'cancelling'))`;
}

function tooLong(bytesMax: number): HubError {
  return tooLarge(`The file is larger than ${bytesMax} bytes, which is the most that is accepted.`);
}

function tooLarge(message: string): HubError {
  return new HubError("request_too_large", message, { param: "file" });
}

const fileRow = z.object({
  id: z.string(),
  bytes: z.number(),
  created_at: epochSeconds,
  expires_at: epochSeconds.nullable(),
  filename: z.string(),
  purpose: z.string(),
});

const daySeconds = 24 * 60 * 60;
/** No transfer takes that long. */
const draftTtlMs = daySeconds * 1000;
const sweptMax = 100;
/** Of no bytes at all. */
const emptySha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
