/** A batch's way: its file is checked, its lines are run a few at a time, and what became of them goes into files. */
import type { Logger } from "pino";
import type { FileDraft, FileStore } from "../files/store.ts";
import { inTime } from "../ledger/in-time.ts";
import type { BatchEnd, BatchLease } from "./lease.ts";
import { type BatchLine, checkFile, readLine, readLines } from "./lines.ts";
import { type Ask, type Outcome, type RunLimits, runLine, unexecuted } from "./run-line.ts";
import type { Batch } from "./store.ts";

export type WorkLimits = RunLimits & {
  batchLinesMax: number;
  batchLineBytesMax: number;
  batchErrorsMax: number;
  batchLinesUnderWayMax: number;
  batchOutputBytesMax: number;
  batchLeaseMs: number;
};

export type WorkParts = {
  files: FileStore;
  ask: Ask;
  limits: WorkLimits;
  logger: Logger;
  onLine: (outcome: "completed" | "failed") => void;
  now: () => number;
  random: () => number;
};

/** Why no further line is begun. The first two end the batch, after the others it goes on elsewhere. */
type Halt = "cancelled" | "expired" | "stopped" | "lost";

export class BatchWork {
  readonly #lease: BatchLease;
  readonly #parts: WorkParts;
  readonly #halt = new AbortController();
  readonly #kill = new AbortController();
  #renewedAtMs: number;

  constructor(lease: BatchLease, parts: WorkParts) {
    this.#lease = lease;
    this.#parts = parts;
    this.#renewedAtMs = performance.now();
    this.#look(lease.batch);
  }

  /** Resolves when the batch is over, or no longer ours to work on. */
  async run(): Promise<void> {
    const { batchLeaseMs } = this.#parts.limits;
    const heartbeat = setInterval(() => void this.check(), batchLeaseMs / 3);
    try {
      if (await this.#validate()) {
        await this.#runLines();
        await this.check();
        if (!this.#isLeft()) await this.#finish();
      }
    } finally {
      clearInterval(heartbeat);
      await this.#inTime(this.#lease.release()).catch(() => {});
    }
  }

  /** Says that the batch is still worked on, and hears whether it was cancelled or its time is up. */
  async check(): Promise<void> {
    const { logger, limits } = this.#parts;
    const askedAtMs = performance.now();
    try {
      // A database that says nothing at all must not keep this one at work while another has the batch.
      const batch = await this.#inTime(this.#lease.renew());
      this.#renewedAtMs = Math.max(this.#renewedAtMs, askedAtMs);
      this.#look(batch);
    } catch (error) {
      logger.warn(
        { batch: this.#lease.batch.id, error: String(error) },
        "a batch's lease was not renewed",
      );
      // Another gateway may have it by now; what both do is done twice.
      if (performance.now() - this.#renewedAtMs > limits.batchLeaseMs) this.#look(undefined);
    }
  }

  get projectId(): string {
    return this.#lease.batch.project_id;
  }

  /** Begins no further line; another gateway, or this one when it is back, goes on. */
  stop(): void {
    this.#halt.abort("stopped" satisfies Halt);
  }

  /** Breaks off what is still under way. */
  kill(): void {
    this.stop();
    this.#kill.abort();
  }

  #inTime<T>(query: Promise<T>): Promise<T> {
    const timeoutMs = this.#parts.limits.batchLeaseMs / 3;
    return inTime(query, { timeoutMs, failure: (cause) => cause as Error });
  }

  #look(batch: Batch | undefined): void {
    if (!batch) {
      this.#halt.abort("lost" satisfies Halt);
      this.#kill.abort();
    } else if (batch.status === "cancelling") this.#halt.abort("cancelled" satisfies Halt);
    else if (this.#parts.now() >= batch.expires_at * 1000) {
      this.#halt.abort("expired" satisfies Halt);
    }
  }

  get #reason(): Halt | undefined {
    return this.#halt.signal.aborted ? this.#halt.signal.reason : undefined;
  }

  #isLeft(): boolean {
    return this.#reason === "stopped" || this.#reason === "lost";
  }

  /** @returns false when there is nothing more to do */
  async #validate(): Promise<boolean> {
    const { status, endpoint } = this.#lease.batch;
    if (status !== "validating") return true;
    const { limits } = this.#parts;
    const checked = await checkFile(this.#input(), {
      endpoint,
      linesMax: limits.batchLinesMax,
      lineBytesMax: limits.batchLineBytesMax,
      faultsMax: limits.batchErrorsMax,
    });
    // What was halted has not seen all of the file.
    if (this.#reason) return !this.#isLeft();
    if (checked.faults.length > 0) {
      await this.#lease.fail(checked.faults);
      return false;
    }
    const begun = await this.#lease.begin(checked);
    // It may have been cancelled a moment ago.
    if (!begun) await this.check();
    return true;
  }

  async #runLines(): Promise<void> {
    if (this.#reason || this.#lease.batch.status === "finalizing") return;
    const finished = await this.#lease.finishedLines();
    const lines = this.#lines(finished);
    let outputBytes = this.#lease.batch.result_bytes;
    const worker = async () => {
      for (let next = await lines.next(); !next.done; next = await lines.next()) {
        const outcome =
          outputBytes > this.#parts.limits.batchOutputBytesMax
            ? unexecuted(next.value, this.#lease.batch, "batch_output_too_large")
            : await this.#runLine(next.value);
        if (!outcome) return;
        outputBytes = (await this.#keep(next.value.number, outcome)) ?? outputBytes;
        this.#parts.onLine(outcome.succeeded ? "completed" : "failed");
      }
    };
    const workers = Array.from({ length: this.#parts.limits.batchLinesUnderWayMax }, worker);
    // One that fails does not leave the others behind at work.
    const settled = await Promise.allSettled(workers.map((it) => it.catch(this.#giveUp)));
    for (const result of settled) if (result.status === "rejected") throw result.reason;
  }

  readonly #giveUp = (error: unknown): never => {
    this.stop();
    throw error;
  };

  #runLine(line: BatchLine): Promise<Outcome | undefined> {
    const { ask, limits, random } = this.#parts;
    return runLine(line, {
      batch: this.#lease.batch,
      ask,
      limits,
      random,
      halt: this.#halt.signal,
      kill: this.#kill.signal,
    });
  }

  /** A line that is done and paid for is not lost because the database is away for a while. */
  async #keep(line: number, outcome: Outcome): Promise<number | undefined> {
    const { limits } = this.#parts;
    for (let tries = 0; ; tries++) {
      try {
        const bytes = await this.#lease.keep({ line, ...outcome });
        if (bytes === undefined) this.#look(undefined);
        return bytes;
      } catch (error) {
        if (this.#kill.signal.aborted) throw error;
        const waitMs = Math.min(
          limits.batchRetryMs * 2 ** Math.min(tries, 30),
          limits.batchRetryMsMax,
        );
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    }
  }

  /** Writes the files, and ends the batch. Whatever breaks in between is done again from its beginning. */
  async #finish(): Promise<void> {
    if (!(await this.#lease.finalize())) return;
    const batch = await this.#lease.renew();
    if (!batch) return;
    const left = batch.total - batch.completed - batch.failed;
    const how = this.#howEnded(batch, left);
    const output = batch.completed > 0 ? await this.#write(batch, this.#completed()) : undefined;
    const failed =
      batch.failed + left > 0 ? await this.#write(batch, this.#failed(how)) : undefined;
    if (this.#isLeft()) return;
    const facts = (kind: string) => ({
      purpose: "batch_output" as const,
      filename: `${batch.id}_${kind}.jsonl`,
      expiresAfter: batch.output_expires_after ?? undefined,
    });
    const { files } = this.#parts;
    await this.#lease.end(how, async (sql) => ({
      outputFileId:
        output && (await files.publish(sql, output.draft.id, facts("output"), output.written)).id,
      errorFileId:
        failed && (await files.publish(sql, failed.draft.id, facts("error"), failed.written)).id,
    }));
  }

  /**
   * One that was being finalized when its gateway died had lines left only if its time was up. Every file that was checked
   * to its end has lines: without any, time was up before that.
   */
  #howEnded({ total }: Batch, left: number): BatchEnd {
    if (this.#reason === "cancelled") return "cancelled";
    return left > 0 || total === 0 ? "expired" : "completed";
  }

  async #write({ project_id }: Batch, lines: AsyncIterable<string>) {
    const draft: FileDraft = await this.#parts.files.beginUnbounded(project_id);
    return { draft, written: await draft.write(toBytes(lines)) };
  }

  #completed(): AsyncIterable<string> {
    return this.#lease.results({ succeeded: true });
  }

  async *#failed(how: BatchEnd): AsyncGenerator<string> {
    yield* this.#lease.results({ succeeded: false });
    if (how === "completed") return;
    const finished = await this.#lease.finishedLines();
    for await (const line of this.#linesOf(finished)) {
      yield unexecuted(line, this.#lease.batch, `batch_${how}`).content;
    }
  }

  /** Lines that are still to be run, until the batch is halted. */
  async *#lines(finished: ReadonlySet<number>): AsyncGenerator<BatchLine> {
    for await (const line of this.#linesOf(finished)) {
      if (this.#reason) return;
      if (this.#parts.now() >= this.#lease.batch.expires_at * 1000) {
        this.#halt.abort("expired" satisfies Halt);
        return;
      }
      yield line;
    }
  }

  async *#linesOf(finished: ReadonlySet<number>): AsyncGenerator<BatchLine> {
    const { files, limits } = this.#parts;
    const { input_file_id, endpoint } = this.#lease.batch;
    for await (const line of readLines(files.read(input_file_id), limits.batchLineBytesMax)) {
      if (finished.has(line.number)) continue;
      const read = readLine(line, endpoint);
      // All of them were right when the batch began.
      if (!Array.isArray(read)) yield read;
    }
  }

  async *#input(): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#parts.files.read(this.#lease.batch.input_file_id)) {
      if (this.#reason) return;
      yield chunk;
    }
  }
}

async function* toBytes(lines: AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  for await (const line of lines) yield Buffer.from(`${line}\n`);
}
