/** Works on the batches of all projects, a few at a time, whichever gateway they were created at. */
import type postgres from "postgres";
import type { FileTimeouts } from "../files/bytes.ts";
import { BatchLease } from "./lease.ts";
import { BatchWork, type WorkLimits, type WorkParts } from "./work.ts";

export type RunnerParts = Omit<WorkParts, "limits"> & {
  sql: postgres.Sql;
  limits: WorkLimits &
    FileTimeouts & {
      batchesUnderWayMax: number;
      batchTurnMs: number;
      batchPollMs: number;
      drainTimeoutMs: number;
    };
  /** Removes what has expired; now and then. */
  sweep: () => Promise<void>;
};

export class BatchRunner {
  readonly #parts: RunnerParts;
  /** In the order in which they were taken. */
  readonly #underWay = new Map<BatchWork, { over: Promise<void>; sinceMs: number }>();
  /** One that was told to make room, until it has. */
  #yielding: BatchWork | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #stopped = true;
  #sweptAtMs = 0;

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  get underWay(): number {
    return this.#underWay.size;
  }

  start(): void {
    this.#stopped = false;
    this.wake();
  }

  /** Something was created or cancelled: it is looked at now, and not when its turn comes. */
  wake(): void {
    if (this.#stopped) return;
    this.#lookAgain = true;
    for (const work of this.#underWay.keys()) void work.check();
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      if (this.#lookAgain) this.wake();
      else if (!this.#stopped) {
        this.#timer = setTimeout(() => this.wake(), this.#parts.limits.batchPollMs).unref();
      }
    });
  }

  /** Begins nothing more, and waits for the lines under way for as long as a drain may take. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
    const works = [...this.#underWay];
    for (const [work] of works) work.stop();
    const timer = setTimeout(() => {
      for (const [work] of works) work.kill();
    }, this.#parts.limits.drainTimeoutMs);
    await Promise.all(works.map(([, { over }]) => over));
    clearTimeout(timer);
  }

  async #look(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      while (this.#lookAgain && !this.#stopped) {
        this.#lookAgain = false;
        await this.#takeBatches();
        await this.#makeRoom();
      }
      await this.#sweepNowAndThen();
    } catch (error) {
      this.#parts.logger.warn({ error: String(error) }, "no batches could be looked for");
    }
  }

  async #takeBatches(): Promise<void> {
    const { sql, now, limits } = this.#parts;
    while (this.#underWay.size < limits.batchesUnderWayMax && !this.#stopped) {
      const lease = await BatchLease.claim({ sql, now, limits });
      if (!lease) return;
      const work = new BatchWork(lease, this.#parts);
      const done = work.run().then(
        () => true,
        (error: unknown) => {
          const facts = { batch: lease.batch.id, error: (error as Error)?.stack ?? String(error) };
          this.#parts.logger.error(facts, "a batch was left in the middle and is taken up again");
          return false;
        },
      );
      const over = done.then((well) => {
        this.#underWay.delete(work);
        if (this.#yielding === work) this.#yielding = undefined;
        // A place is free; after a failure it is left so until the next look.
        if (well) this.wake();
      });
      this.#underWay.set(work, { over, sinceMs: this.#parts.now() });
    }
  }

  /**
   * Where no place is free and a project waits that has none, another's batch is left in the middle and goes on later:
   * the newest of whoever has most places, else the one that had its turn longest. Its finished lines are kept.
   */
  async #makeRoom(): Promise<void> {
    const { sql, now, limits } = this.#parts;
    if (this.#underWay.size < limits.batchesUnderWayMax || this.#stopped || this.#yielding) return;
    const ofProject = new Map<string, BatchWork[]>();
    for (const work of this.#underWay.keys()) {
      ofProject.set(work.projectId, [...(ofProject.get(work.projectId) ?? []), work]);
    }
    if (!(await BatchLease.isAnyWaiting({ sql, limits }, [...ofProject.keys()]))) return;
    const [most = []] = [...ofProject.values()].sort((one, other) => other.length - one.length);
    const [oldest] = [...this.#underWay].filter(
      ([, { sinceMs }]) => now() - sinceMs >= limits.batchTurnMs,
    );
    const leaving = most.length > 1 ? most.at(-1) : oldest?.[0];
    if (!leaving) return;
    this.#yielding = leaving;
    leaving.stop();
  }

  async #sweepNowAndThen(): Promise<void> {
    const nowMs = this.#parts.now();
    if (nowMs - this.#sweptAtMs < sweepEveryMs) return;
    this.#sweptAtMs = nowMs;
    await this.#parts.sweep();
  }
}

const sweepEveryMs = 10 * 60_000;
