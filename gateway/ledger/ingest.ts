/** Carries records from the spool into the database, in order, in batches, until they are committed. */
import { appendFile } from "node:fs/promises";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { MeteringLimits } from "../metering/config.ts";
import type { Spool } from "./spool.ts";

export type IngesterOptions = {
  spool: Spool;
  /** Writes records that may be there already, all or none; returns how many were new. */
  insert: (lines: readonly string[]) => Promise<number>;
  limits: Pick<
    MeteringLimits,
    "ingestRecordsMax" | "ingestDelayMs" | "ingestRetryMs" | "ingestRetryMsMax"
  >;
  /** Where a record goes that the database refuses for what it says; one JSON line each. */
  rejectedFile: string;
  onError?: (error: unknown) => void;
};

/** While the database is down it waits longer and longer; the records wait on disk. */
export class Ingester {
  readonly #options: IngesterOptions;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #retryMs: number;
  #stopped = false;

  /** Records in the database since the start, and records that it refused. */
  ingestedRecords = 0;
  rejectedRecords = 0;

  constructor(options: IngesterOptions) {
    this.#options = options;
    this.#retryMs = options.limits.ingestRetryMs;
  }

  /** From here on records are taken as they are appended, after those of an earlier process. */
  start(): void {
    const { spool, limits } = this.#options;
    spool.onAppended(() => this.#schedule(limits.ingestDelayMs));
    this.#schedule(0);
  }

  /**
   * Everything that was appended before the call is in the database when this resolves.
   * @throws HubError `database_unavailable`
   */
  async flush(): Promise<void> {
    // A run under way may have looked before the last record was appended; the next one has not.
    await this.#running?.catch(() => {});
    try {
      await this.#run();
    } catch (error) {
      throw new HubError("database_unavailable", "The ledger's database does not answer.", {
        cause: error,
      });
    }
  }

  /** Finishes the batch under way and takes no further one. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running?.catch(() => {});
  }

  #schedule(delayMs: number): void {
    if (this.#timer !== undefined || this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#run().then(
        () => {
          this.#retryMs = this.#options.limits.ingestRetryMs;
        },
        (error: unknown) => {
          this.#options.onError?.(error);
          this.#schedule(this.#retryMs);
          this.#retryMs = Math.min(this.#retryMs * 2, this.#options.limits.ingestRetryMsMax);
        },
      );
    }, delayMs).unref();
  }

  #run(): Promise<void> {
    this.#running ??= this.#drain().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #drain(): Promise<void> {
    const { spool, limits } = this.#options;
    while (!this.#stopped) {
      const batch = await spool.read(limits.ingestRecordsMax);
      if (batch === undefined) return;
      await this.#insert(batch.lines);
      await batch.commit();
    }
  }

  /** A batch that the database refuses for one record's sake is taken apart, so that the rest gets in. */
  async #insert(lines: readonly string[]): Promise<void> {
    try {
      this.ingestedRecords += await this.#options.insert(lines);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (lines.length > 1) {
        for (const line of lines) await this.#insert([line]);
        return;
      }
      this.rejectedRecords++;
      this.#options.onError?.(error);
      await appendFile(this.#options.rejectedFile, `${lines[0]}\n`, { mode: 0o600 });
    }
  }
}

/** SQLSTATE classes 22 and 23: the data is at fault, and trying again would never help. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "string" &&
    /^2[23]/.test(error.code) &&
    error.code.length === 5
  );
}
