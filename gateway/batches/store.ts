/** Batches as their clients make and see them; `lease.ts` is for who works on them. */
import type postgres from "postgres";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type KeyId, keyId, sortableText } from "../../sdk/protocol/ids.ts";
import { type FileTimeouts, openFileAsks } from "../files/bytes.ts";
import { epochSeconds, type FileStore, mayBeId } from "../files/store.ts";
import type { Ask } from "../kept/ask.ts";

export type NewBatch = {
  projectId: string;
  keyId: KeyId;
  endpoint: string;
  inputFileId: string;
  completionWindow: string;
  windowMs: number;
  metadata: Record<string, string> | undefined;
  outputExpiresAfter: number | undefined;
  /** Headers that its requests are sent with. */
  tags: string | undefined;
  task: string | undefined;
};

export type Batch = z.infer<typeof batchRow>;

export type BatchStoreOptions = {
  sql: postgres.Sql;
  files: FileStore;
  now: () => number;
  limits: FileTimeouts & { projectBatchesMax: number };
};

export class BatchStore {
  readonly #ask: Ask;
  readonly #files: FileStore;
  readonly #now: () => number;
  readonly #limits: BatchStoreOptions["limits"];

  constructor({ sql, files, now, limits }: BatchStoreOptions) {
    this.#ask = openFileAsks(sql, limits, "batches").ask;
    this.#files = files;
    this.#now = now;
    this.#limits = limits;
  }

  /** @throws HubError `not_found` and `invalid_value` for the file, `rate_limit_exceeded` for too many batches */
  async create(batch: NewBatch): Promise<Batch> {
    const { projectId, inputFileId } = batch;
    const file = await this.#files.get(projectId, inputFileId).catch((error) => {
      if (!(error instanceof HubError) || error.code !== "not_found") throw error;
      throw new HubError("not_found", error.message, { param: "input_file_id" });
    });
    if (file.purpose !== "batch") {
      throw new HubError(
        "invalid_value",
        `Invalid 'input_file_id': the file's purpose is '${file.purpose}', and a batch reads files whose purpose is 'batch'.`,
        { param: "input_file_id" },
      );
    }
    const row = await this.#ask(async (sql) => {
      await sql`select pg_advisory_xact_lock(hashtext(${`batches ${projectId}`}))`;
      const [open] = await sql<{ batches: number }[]>`select count(*)::int as batches
          from gateway.batches where project_id = ${projectId} and status in ${sql(unfinished)}`;
      if ((open?.batches ?? 0) >= this.#limits.projectBatchesMax) {
        throw new HubError(
          "rate_limit_exceeded",
          `This project has ${this.#limits.projectBatchesMax} batches that are not over, which is the most it may have.`,
          { retryAfterMs: 60_000 },
        );
      }
      const [created] = await sql`
          insert into gateway.batches as batch (id, project_id, key_id, endpoint, completion_window,
            input_file_id, output_expires_after, status, metadata, tags, task, created_at, expires_at)
          select ${`batch_${sortableText(this.#now())}`}, ${projectId}, ${batch.keyId},
            ${batch.endpoint}, ${batch.completionWindow}, id, ${batch.outputExpiresAfter ?? null}::int,
            'validating', ${batch.metadata ? JSON.stringify(batch.metadata) : null}::text,
            ${batch.tags ?? null}::text, ${batch.task ?? null}::text,
            ${this.#at()}::timestamptz, ${this.#at(batch.windowMs)}::timestamptz
          from gateway.files where id = ${inputFileId} and is_whole
          returning to_jsonb(batch) as batch`;
      return created;
    });
    // It was deleted while it was looked at.
    if (!row) throw new HubError("not_found", `No such File object: ${inputFileId}`);
    return batchRow.parse(row.batch);
  }

  /** @throws HubError `not_found` for another project's as for one that never was */
  async get(projectId: string, id: string): Promise<Batch> {
    const [row] = mayBeId(id)
      ? await this.#ask(
          (sql) => sql`select to_jsonb(batch) as batch from gateway.batches batch
            where id = ${id} and project_id = ${projectId}`,
        )
      : [];
    if (!row) throw noSuchBatch(id);
    return batchRow.parse(row.batch);
  }

  /** The newest first. */
  async list(
    projectId: string,
    { limit, after }: { limit: number; after?: string | undefined },
  ): Promise<Batch[]> {
    if (after !== undefined && !mayBeId(after)) throw noSuchBatch(after);
    const rows = await this.#ask(
      (sql) => sql`select to_jsonb(batch) as batch from gateway.batches batch
        where project_id = ${projectId} ${after === undefined ? sql`` : sql`and id < ${after}`}
        order by id desc limit ${limit}`,
    );
    return rows.map(({ batch }) => batchRow.parse(batch));
  }

  /** What is under way is finished, and nothing begun. @throws HubError `not_found`, `invalid_state` */
  async cancel(projectId: string, id: string): Promise<Batch> {
    const found = await this.get(projectId, id);
    const [row] = await this.#ask(
      (sql) => sql`update gateway.batches as batch
        set status = 'cancelling', cancelling_at = ${this.#at()}
        where id = ${id} and status in ('validating', 'in_progress')
        returning to_jsonb(batch) as batch`,
    );
    if (row) return batchRow.parse(row.batch);
    if (found.status === "cancelling") return found;
    const { status } = await this.get(projectId, id);
    throw new HubError(
      "invalid_state",
      `Cannot cancel a batch with status '${status}'. Only one that is being validated or is in progress can be cancelled.`,
    );
  }

  #at(laterMs = 0): string {
    return new Date(this.#now() + laterMs).toISOString();
  }
}

function noSuchBatch(id: string): HubError {
  return new HubError("not_found", `No batch found with id '${id.slice(0, 100)}'.`);
}

export const unfinished = ["validating", "in_progress", "finalizing", "cancelling"];

const moment = epochSeconds.nullable();
const json = z.string().transform((text): unknown => JSON.parse(text));

export const batchRow = z.object({
  id: z.string(),
  project_id: z.string(),
  key_id: keyId,
  endpoint: z.string(),
  completion_window: z.string(),
  input_file_id: z.string(),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  output_expires_after: z.number().nullable(),
  status: z.enum([
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
  ]),
  errors: json.nullable(),
  metadata: json.nullable(),
  tags: z.string().nullable(),
  task: z.string().nullable(),
  model: z.string().nullable(),
  total: z.number(),
  completed: z.number(),
  failed: z.number(),
  result_bytes: z.number(),
  created_at: epochSeconds,
  expires_at: epochSeconds,
  in_progress_at: moment,
  finalizing_at: moment,
  completed_at: moment,
  failed_at: moment,
  expired_at: moment,
  cancelling_at: moment,
  cancelled_at: moment,
});
