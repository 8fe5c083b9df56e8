/** Files that come in several parts: announced, sent in any order, put together in the order that is asked for. */
import { createHash } from "node:crypto";
import type postgres from "postgres";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { sortableText } from "../../sdk/protocol/ids.ts";
import { type FileAsks, type FileTimeouts, openFileAsks, readBytes, writeBytes } from "./bytes.ts";
import { epochSeconds, type FileFacts, type FileObject, type FileStore, mayBeId } from "./store.ts";

/** As OpenAI tells of an upload; times are seconds since 1970. */
export type UploadObject = {
  id: string;
  object: "upload";
  bytes: number;
  created_at: number;
  expires_at: number;
  filename: string;
  purpose: string;
  status: "pending" | "completed" | "cancelled" | "expired";
  file: FileObject | null;
};

export type UploadPart = {
  id: string;
  object: "upload.part";
  created_at: number;
  upload_id: string;
};

export type UploadLimits = FileTimeouts & {
  fileBytesMax: number;
  partBytesMax: number;
  uploadPartsMax: number;
  projectUploadsMax: number;
  uploadTtlMs: number;
};

export type UploadStoreOptions = {
  sql: postgres.Sql;
  files: FileStore;
  now: () => number;
  limits: UploadLimits;
};

export type NewUpload = FileFacts & { bytes: number; mimeType: string };

type Asked = { projectId: string; id: string };

export class UploadStore {
  readonly #asks: FileAsks;
  readonly #files: FileStore;
  readonly #now: () => number;
  readonly #limits: UploadLimits;

  constructor({ sql, files, now, limits }: UploadStoreOptions) {
    this.#asks = openFileAsks(sql, limits, "uploads");
    this.#files = files;
    this.#now = now;
    this.#limits = limits;
  }

  /** @throws HubError `request_too_large`, `rate_limit_exceeded` */
  async create(projectId: string, upload: NewUpload): Promise<UploadObject> {
    const { fileBytesMax, projectUploadsMax, uploadTtlMs } = this.#limits;
    if (upload.bytes > fileBytesMax) {
      throw new HubError(
        "request_too_large",
        `An upload has at most ${fileBytesMax} bytes; ${upload.bytes} were announced.`,
        { param: "bytes" },
      );
    }
    const open = await this.#asks.ask(async (sql) => {
      const [row] = await sql<{ uploads: number; bytes: string }[]>`
        select count(*)::int as uploads, coalesce(sum(bytes), 0)::text as bytes
        from gateway.uploads
        where project_id = ${projectId} and status = 'pending' and expires_at > ${this.#at()}`;
      // What others under way were announced with has its room too.
      await this.#files.ensureRoom(sql, projectId, upload.bytes + Number(row?.bytes ?? 0));
      return row;
    });
    if ((open?.uploads ?? 0) >= projectUploadsMax) {
      throw new HubError(
        "rate_limit_exceeded",
        `This project has ${projectUploadsMax} uploads under way, which is the most it may have. Complete or cancel one.`,
        { retryAfterMs: 60_000 },
      );
    }
    const [row] = await this.#asks.ask(
      (
        sql,
      ) => sql`insert into gateway.uploads as upload (id, project_id, purpose, filename, mime_type,
          bytes, status, created_at, expires_at, file_expires_after)
        values (${`upload_${sortableText(this.#now())}`}, ${projectId}, ${upload.purpose},
          ${upload.filename}, ${upload.mimeType}, ${upload.bytes}, 'pending', ${this.#at()},
          ${this.#at(uploadTtlMs)}, ${upload.expiresAfter ?? null})
        returning to_jsonb(upload) as upload`,
    );
    return this.#toUpload(uploadRow.parse(row?.upload), null);
  }

  /** @throws HubError `not_found`, `invalid_state`, `request_too_large` */
  async addPart(of: Asked, source: AsyncIterable<Uint8Array>): Promise<UploadPart> {
    const { ask } = this.#asks;
    const { partBytesMax, uploadPartsMax } = this.#limits;
    const { upload, sent } = await ask(async (sql) => {
      const upload = await this.#pending(sql, of);
      const [sent] = await sql<{ parts: number; bytes: string }[]>`
        select count(*)::int as parts, coalesce(sum(bytes), 0)::text as bytes
        from gateway.upload_parts where upload_id = ${of.id}`;
      return { upload, sent };
    });
    if ((sent?.parts ?? 0) >= uploadPartsMax)
      throw tooLarge(`An upload has at most ${uploadPartsMax} parts.`);
    // A part may have to be sent again, under another id.
    const left = 2 * upload.bytes - Number(sent?.bytes ?? 0);
    const bytesMax = Math.min(partBytesMax, left);
    const id = `part_${sortableText(this.#now())}`;
    await ask(
      (sql) => sql`insert into gateway.upload_parts (id, upload_id, bytes, is_whole, created_at)
          values (${id}, ${of.id}, 0, false, ${this.#at()})`,
    );
    try {
      const { bytes } = await writeBytes(ask, id, source, {
        bytesMax,
        tooLarge: () =>
          tooLarge(
            left < partBytesMax
              ? "The parts of this upload have more bytes than were announced."
              : `A part has at most ${partBytesMax} bytes.`,
          ),
      });
      const [row] = await ask(
        (sql) => sql`update gateway.upload_parts as part set bytes = ${bytes}, is_whole = true
            where id = ${id} returning to_jsonb(part) as part`,
      );
      if (!row) throw invalidState("The upload was ended while its part was arriving.");
      const { created_at } = partRow.parse(row.part);
      return { id, object: "upload.part", created_at, upload_id: of.id };
    } catch (error) {
      await this.#asks
        .askMuch(async (sql) => {
          await sql`delete from gateway.upload_parts where id = ${id}`;
          // Who ended the upload meanwhile removed the part, and not what has come of it since.
          await sql`delete from gateway.file_chunks where owner_id = ${id}`;
        })
        .catch(() => {});
      throw error;
    }
  }

  /**
   * Puts the parts together in the order of their ids.
   * @throws HubError `not_found`, `invalid_state`, `invalid_value` for parts that are not this upload's, a
   *   number of bytes that is not the announced one, or another MD5
   */
  async complete(
    of: Asked,
    { partIds, md5 }: { partIds: readonly string[]; md5?: string | undefined },
  ): Promise<UploadObject> {
    const { upload, rows } = await this.#asks.ask(async (sql) => ({
      upload: await this.#pending(sql, of),
      rows: await sql`select to_jsonb(part) as part from gateway.upload_parts part
        where upload_id = ${of.id} and is_whole`,
    }));
    const parts = new Map(rows.map(({ part }) => partRow.parse(part)).map((it) => [it.id, it]));
    const bytes = partIds.reduce((sum, id) => sum + (parts.get(id)?.bytes ?? 0), 0);
    const stranger = partIds.find((id, index) => !parts.has(id) || partIds.indexOf(id) < index);
    if (stranger !== undefined) {
      throw invalidParts(
        `'${stranger.slice(0, 100)}' is no part of this upload, or is named twice.`,
      );
    }
    if (bytes !== upload.bytes) {
      throw invalidParts(`These parts have ${bytes} bytes, and ${upload.bytes} were announced.`);
    }
    const digests = await this.#digests(partIds);
    if (md5 !== undefined && md5.toLowerCase() !== digests.md5) {
      throw new HubError("invalid_value", "The MD5 of these parts is another than the given one.", {
        param: "md5",
      });
    }
    const draft = await this.#files.begin(of.projectId);
    try {
      return await this.#asks.askMuch(async (sql) => {
        await sql`select pg_advisory_xact_lock(hashtext(${`files ${of.projectId}`}))`;
        await this.#pending(sql, of, { locked: true });
        await this.#files.ensureRoom(sql, of.projectId, bytes);
        let position = 0;
        for (const id of partIds) {
          const moved = await sql`
            update gateway.file_chunks set owner_id = ${draft.id}, position = position + ${position}
            where owner_id = ${id}`;
          position += moved.count;
        }
        const { purpose, filename, file_expires_after } = upload;
        const facts = { purpose, filename, expiresAfter: file_expires_after ?? undefined };
        const file = await this.#files.publish(sql, draft.id, facts as FileFacts, {
          bytes,
          sha256: digests.sha256,
        });
        await removeParts(sql, of.id);
        await sql`update gateway.uploads set status = 'completed', file_id = ${file.id}
          where id = ${of.id}`;
        return this.#toUpload({ ...upload, status: "completed" }, file);
      });
    } catch (error) {
      await draft.discard().catch(() => {});
      throw error;
    }
  }

  /** @throws HubError `not_found`, `invalid_state` */
  async cancel(of: Asked): Promise<UploadObject> {
    return this.#asks.askMuch(async (sql) => {
      const upload = await this.#pending(sql, of, { locked: true });
      await sql`update gateway.uploads set status = 'cancelled' where id = ${of.id}`;
      await removeParts(sql, of.id);
      return this.#toUpload({ ...upload, status: "cancelled" }, null);
    });
  }

  /** Forgets uploads a day after their time, with the parts of those that were never completed. */
  async sweep(): Promise<void> {
    const { ask, askMuch } = this.#asks;
    const old = await ask(
      (sql) => sql<{ id: string }[]>`select id from gateway.uploads
        where expires_at < ${this.#at(-dayMs)} limit ${sweptMax}`,
    );
    for (const { id } of old) {
      await askMuch(async (sql) => {
        await removeParts(sql, id);
        await sql`delete from gateway.uploads where id = ${id}`;
      });
    }
  }

  async #pending(
    sql: postgres.TransactionSql,
    { projectId, id }: Asked,
    { locked = false } = {},
  ): Promise<UploadRow> {
    const [row] = mayBeId(id)
      ? await sql`select to_jsonb(upload) as upload from gateway.uploads upload
          where id = ${id} and project_id = ${projectId} ${locked ? sql`for update` : sql``}`
      : [];
    if (!row) throw new HubError("not_found", `No such Upload object: ${id.slice(0, 100)}`);
    const upload = uploadRow.parse(row.upload);
    const { status } = this.#toUpload(upload, null);
    if (status === "pending") return upload;
    throw invalidState(`The upload '${id}' is ${status}. Only a pending one can be changed.`);
  }

  async #digests(partIds: readonly string[]): Promise<{ md5: string; sha256: string }> {
    const [md5, sha256] = [createHash("md5"), createHash("sha256")];
    for (const id of partIds) {
      for await (const chunk of readBytes(this.#asks.ask, id)) {
        md5.update(chunk);
        sha256.update(chunk);
      }
    }
    return { md5: md5.digest("hex"), sha256: sha256.digest("hex") };
  }

  #toUpload(row: UploadRow, file: FileObject | null): UploadObject {
    const { id, bytes, created_at, expires_at, filename, purpose } = row;
    const isLate = row.status === "pending" && expires_at * 1000 <= this.#now();
    const status = isLate ? "expired" : row.status;
    return { id, object: "upload", bytes, created_at, expires_at, filename, purpose, status, file };
  }

  #at(laterMs = 0): string {
    return new Date(this.#now() + laterMs).toISOString();
  }
}

async function removeParts(sql: postgres.TransactionSql, uploadId: string): Promise<void> {
  const removed = await sql<{ id: string }[]>`
    delete from gateway.upload_parts where upload_id = ${uploadId} returning id`;
  for (const { id } of removed) await sql`delete from gateway.file_chunks where owner_id = ${id}`;
}

function tooLarge(message: string): HubError {
  return new HubError("request_too_large", message, { param: "data" });
}

function invalidParts(message: string): HubError {
  return new HubError("invalid_value", `Invalid 'part_ids': ${message}`, { param: "part_ids" });
}

function invalidState(message: string): HubError {
  return new HubError("invalid_state", message);
}

const uploadRow = z.object({
  id: z.string(),
  bytes: z.number(),
  created_at: epochSeconds,
  expires_at: epochSeconds,
  filename: z.string(),
  purpose: z.string(),
  status: z.enum(["pending", "completed", "cancelled"]),
  file_expires_after: z.number().nullable(),
});
type UploadRow = z.infer<typeof uploadRow>;

const partRow = z.object({ id: z.string(), bytes: z.number(), created_at: epochSeconds });

const dayMs = 24 * 60 * 60 * 1000;
const sweptMax = 100;
