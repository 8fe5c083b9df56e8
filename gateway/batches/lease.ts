/**
 * Working on a batch: of several gateways with one database, one at a time does. It holds a lease that it renews;
 * from one that is gone another takes the batch over, and whatever the first still writes is refused.
 */
import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type FileAsks, type FileTimeouts, openFileAsks } from "../files/bytes.ts";
import type { LineFault } from "./lines.ts";
import { type Batch, batchRow, unfinished } from "./store.ts";

export type LineResult = { line: number; succeeded: boolean; content: string };

/** How a batch whose file was right ends. */
export type BatchEnd = "completed" | "expired" | "cancelled";

export type LeaseOptions = {
  sql: postgres.Sql;
  now: () => number;
  limits: FileTimeouts & { batchLeaseMs: number };
};

export class BatchLease {
  readonly batch: Batch;
  readonly #asks: FileAsks;
  readonly #now: () => number;
  readonly #leaseMs: number;
  /** Of this lease alone: a process that slept through its own is as strange as any other. */
  readonly #owner: string;

  private constructor(batch: Batch, owner: string, { sql, now, limits }: LeaseOptions) {
    this.batch = batch;
    this.#owner = owner;
    this.#asks = openFileAsks(sql, limits, "batches");
    this.#now = now;
    this.#leaseMs = limits.batchLeaseMs;
  }

  /** Takes, of the batches that nobody works on, the one that waits longest, of a project of which fewest are worked on. */
  static async claim(options: LeaseOptions): Promise<BatchLease | undefined> {
    const { sql, limits } = options;
    const owner = randomUUID();
    const [row] = await openFileAsks(sql, limits, "batches").ask(
      (sql) => sql`update gateway.batches as batch
        set lease_owner = ${owner}, lease_until = ${leaseUntil(sql, limits.batchLeaseMs)}
        where id = (
          select id from gateway.batches as waiting
          where ${isWaiting(sql)}
          order by (
            select count(*) from gateway.batches as held
            where held.project_id = waiting.project_id and held.lease_until >= now()
          ), waiting_since, created_at
          limit 1 for update skip locked)
        returning to_jsonb(batch) as batch`,
    );
    return row && new BatchLease(batchRow.parse(row.batch), owner, options);
  }

  /** Whether a batch waits of a project that is none of these. */
  static async isAnyWaiting(
    { sql, limits }: Pick<LeaseOptions, "sql" | "limits">,
    besides: readonly string[],
  ): Promise<boolean> {
    const [row] = await openFileAsks(sql, limits, "batches").ask(
      (sql) => sql<{ waits: boolean }[]>`
        select exists (
          select from gateway.batches
          where ${isWaiting(sql)} and project_id <> all(${[...besides]}::text[])) as waits`,
    );
    return row?.waits ?? false;
  }

  /** @returns the batch as it is now, or nothing when it is no longer ours */
  async renew(): Promise<Batch | undefined> {
    const [row] = await this.#asks.ask(
      (
        sql,
      ) => sql`update gateway.batches as batch set lease_until = ${leaseUntil(sql, this.#leaseMs)}
        where ${this.#isOurs(sql)} returning to_jsonb(batch) as batch`,
    );
    return row && batchRow.parse(row.batch);
  }

  /** For another gateway to take at once. */
  async release(): Promise<void> {
    await this.#asks.ask(
      (sql) => sql`update gateway.batches
        set lease_owner = null, lease_until = null, waiting_since = clock_timestamp()
        where ${this.#isOurs(sql)}`,
    );
  }

  /** The file is right. @returns false when the batch is no longer ours, or was cancelled */
  async begin({ total, model }: { total: number; model: string | undefined }): Promise<boolean> {
    const begun = await this.#asks.ask(
      (sql) => sql`update gateway.batches
        set status = 'in_progress', in_progress_at = ${this.#at()}, total = ${total},
          model = ${model ?? null}
        where status = 'validating' and ${this.#isOurs(sql)}`,
    );
    return begun.count > 0;
  }

  /** The file is not right, so nothing was run. */
  async fail(faults: readonly LineFault[]): Promise<void> {
    await this.#asks.ask(
      (sql) => sql`update gateway.batches
        set status = 'failed', failed_at = ${this.#at()}, errors = ${JSON.stringify(faults)},
          lease_owner = null, lease_until = null
        where status = 'validating' and ${this.#isOurs(sql)}`,
    );
  }

  /** Lines that are done, by number. */
  async finishedLines(): Promise<Set<number>> {
    const rows = await this.#asks.ask(
      (sql) => sql<{ line: number }[]>`
        select line from gateway.batch_results where batch_id = ${this.batch.id}`,
    );
    return new Set(rows.map(({ line }) => line));
  }

  /**
   * Keeps what became of a line, and counts it, at once; a line that is there already changes nothing.
   * @returns the bytes of all results, or nothing when the batch is no longer ours
   */
  async keep({ line, succeeded, content }: LineResult): Promise<number | undefined> {
    const bytes = Buffer.byteLength(content);
    const [row] = await this.#asks.ask(
      (sql) => sql<{ bytes: string }[]>`
        with ours as (
          select id from gateway.batches where ${this.#isOurs(sql)} for update
        ), kept as (
          insert into gateway.batch_results (batch_id, line, succeeded, content)
          select id, ${line}::int, ${succeeded}::boolean, ${content}::text from ours
          on conflict do nothing returning succeeded
        )
        update gateway.batches set
          completed = completed + (select count(*) from kept where succeeded),
          failed = failed + (select count(*) from kept where not succeeded),
          result_bytes = result_bytes + (select count(*) from kept) * ${bytes}::bigint
        from ours where batches.id = ours.id returning result_bytes::text as bytes`,
    );
    return row && Number(row.bytes);
  }

  /** @returns false when the batch is no longer ours */
  async finalize(): Promise<boolean> {
    const updated = await this.#asks.ask(
      (sql) => sql`update gateway.batches
        set finalizing_at = coalesce(finalizing_at, ${this.#at()}),
          status = case status when 'in_progress' then 'finalizing' else status end
        where ${this.#isOurs(sql)}`,
    );
    return updated.count > 0;
  }

  /** The contents of results in the order of lines; no more than some of them are held at a time. */
  async *results({ succeeded }: { succeeded: boolean }): AsyncGenerator<string> {
    const ofKind = (sql: postgres.TransactionSql) =>
      sql`batch_id = ${this.batch.id} and succeeded = ${succeeded}`;
    for (let after = 0; ; ) {
      const sizes = await this.#asks.ask(
        (sql) => sql<{ line: number; bytes: number }[]>`
          select line, octet_length(content) as bytes from gateway.batch_results
          where ${ofKind(sql)} and line > ${after} order by line limit ${pageLines}`,
      );
      const last = lastThatFits(sizes);
      if (last === undefined) return;
      const rows = await this.#asks.ask(
        (sql) => sql<{ content: string }[]>`
          select content from gateway.batch_results
          where ${ofKind(sql)} and line > ${after} and line <= ${last} order by line`,
      );
      for (const { content } of rows) yield content;
      after = last;
    }
  }

  /**
   * The batch is over: its files are there from one moment to the next, and the results are gone.
   * @param publish makes the files whole within the same transaction
   * @throws HubError `request_cancelled` when it is no longer ours
   */
  async end(
    how: BatchEnd,
    publish: (
      sql: postgres.TransactionSql,
    ) => Promise<{ outputFileId: string | undefined; errorFileId: string | undefined }>,
  ): Promise<void> {
    const { id } = this.batch;
    await this.#asks.askMuch(async (sql) => {
      const ours = await sql`
          select id from gateway.batches where id = ${id} and lease_owner = ${this.#owner} for update`;
      if (ours.length === 0) throw lost();
      const { outputFileId, errorFileId } = await publish(sql);
      await sql`update gateway.batches
          set status = ${how}, ${sql(`${how}_at`)} = ${this.#at()},
            output_file_id = ${outputFileId ?? null}, error_file_id = ${errorFileId ?? null},
            lease_owner = null, lease_until = null
          where id = ${id}`;
      await sql`delete from gateway.batch_results where batch_id = ${id}`;
    });
  }

  #isOurs(sql: postgres.TransactionSql) {
    return sql`id = ${this.batch.id} and lease_owner = ${this.#owner}`;
  }

  #at(): string {
    return new Date(this.#now()).toISOString();
  }
}

function isWaiting(sql: postgres.TransactionSql) {
  return sql`status in ${sql(unfinished)} and (lease_until is null or lease_until < now())`;
}

function lost(): HubError {
  return new HubError("request_cancelled", "Another gateway has taken this batch.");
}

/** By the database's clock, which all gateways share. */
function leaseUntil(sql: postgres.TransactionSql, leaseMs: number) {
  return sql`now() + ${leaseMs}::float8 * interval '1 millisecond'`;
}

/** Results may be megabytes each. */
function lastThatFits(sizes: readonly { line: number; bytes: number }[]): number | undefined {
  let held = 0;
  let last: number | undefined;
  for (const { line, bytes } of sizes) {
    if (last !== undefined && held + bytes > pageBytes) break;
    held += bytes;
    last = line;
  }
  return last;
}

const pageLines = 500;
const pageBytes = 1 << 20;
