/** Keeps what projects let be kept of their prompts and answers: heard on their way, redacted, sealed and written behind them. */
import type { Logger } from "pino";
import type { Counter } from "prom-client";
import type { Project } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { GatewayLimits } from "../config.ts";
import type { Call } from "../dialects/dialect.ts";
import { type Said, writeDocument } from "./document.ts";
import { type Heard, Hearing, Room } from "./hearing.ts";
import type { Content, ContentStore } from "./store.ts";

/** Why a content is not kept that was to be. */
export type DropReason = "no_key" | "no_room" | "failed" | "key_gone" | "closed";

export type ContentLogOptions = {
  store: ContentStore;
  /** Whether there is a key to seal with. */
  canSeal: boolean;
  projects: () => readonly Project[];
  limits: Pick<
    GatewayLimits,
    | "contentBytesMax"
    | "contentStreamBytesMax"
    | "contentsBytesMax"
    | "contentRowsMax"
    | "contentFlushMs"
    | "contentRetryMsMax"
    | "contentSweepMs"
  >;
  logger: Logger;
  kept: Counter;
  dropped: Counter<"reason">;
  now: () => number;
  random: () => number;
};

export type CaptureInput = {
  requestId: string;
  project: Project;
  endUser: string | undefined;
  startedAtMs: number;
  call: Call;
};

/** What is kept of one request, from before it is sent until it is over. Either end gives its room back. */
export type Capture = {
  /** For one call of an upstream; absent where answers are not kept. */
  hear: (() => Hearing) | undefined;
  /** The request was sent, and is settled. */
  ended(answer?: { heard: Heard | undefined; text: Said["text"]; complete: boolean }): void;
  /** Nobody was asked. */
  unsent(): void;
};

type Waiting = Omit<Content, "bytes" | "truncated"> & {
  /** What takes room until it is written. */
  roomBytes: number;
  /** Until it has been made. */
  said: Said | undefined;
  made: { bytes: Buffer; truncated: boolean } | undefined;
};

export class ContentLog {
  readonly store: ContentStore;
  readonly #options: ContentLogOptions;
  readonly #room: Room;
  readonly #waiting: Waiting[] = [];
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #retryMs: number;
  #closed = false;
  readonly #sweeper: NodeJS.Timeout;
  #sweeping: Promise<void> | undefined;
  /** By project, as the rows have it. */
  readonly #retentions = new Map<string, number>();

  constructor(options: ContentLogOptions) {
    this.#options = options;
    this.store = options.store;
    const { contentsBytesMax, contentFlushMs, contentSweepMs } = options.limits;
    this.#room = new Room(contentsBytesMax);
    this.#retryMs = contentFlushMs;
    this.#sweeper = setInterval(() => void this.#sweepQuietly(), contentSweepMs);
    this.#sweeper.unref();
  }

  /** Whether a project may consent here. */
  get canSeal(): boolean {
    return this.#options.canSeal;
  }

  /** Bytes that what is not written yet takes in memory. */
  get bytes(): number {
    return this.#room.bytes;
  }

  /** @returns nothing for what is not to be kept, which costs no more than the question */
  begin(input: CaptureInput): Capture | undefined {
    const { contentLog: setting } = input.project;
    if (!setting || this.#options.random() >= setting.share) return undefined;
    if (!this.#options.canSeal) {
      this.#drop("no_key");
      return undefined;
    }
    const hearings: Hearing[] = [];
    const letGo = () => {
      for (const hearing of hearings) hearing.close();
    };
    return {
      hear: setting.parts.includes("answer")
        ? () => {
            const { contentBytesMax, contentStreamBytesMax } = this.#options.limits;
            const bytesMax = input.call.stream ? contentStreamBytesMax : contentBytesMax;
            const hearing = new Hearing(this.#room, bytesMax);
            hearings.push(hearing);
            return hearing;
          }
        : undefined,
      ended: ({ heard, text, complete } = { heard: undefined, text: "", complete: false }) => {
        // It was a part of its hearing's buffer, whose room it no longer has.
        const said = heard && { ...heard, bytes: Buffer.from(heard.bytes) };
        letGo();
        const { call } = input;
        this.#offer(input, {
          dialect: call.dialect.format,
          stream: call.stream,
          call: setting.parts.includes("prompt") ? call : undefined,
          setting,
          heard: said,
          text: said ? text : "",
          complete,
        });
      },
      unsent: letGo,
    };
  }

  #offer(input: CaptureInput, said: Said): void {
    const { requestId, project, endUser, startedAtMs: atMs } = input;
    const { limits } = this.#options;
    // What reads the answer knows the request, whether its prompt is kept or not.
    const roomBytes = waitingBytes + bytesOf(input.call) + (said.heard?.bytes.length ?? 0);
    if (this.#closed || !this.#room.take(roomBytes)) {
      this.#drop(this.#closed ? "closed" : "no_room");
      return;
    }
    const expiresAtMs = atMs + said.setting.retentionDays * dayMs;
    this.#waiting.push({
      requestId,
      projectId: project.id,
      endUser,
      atMs,
      expiresAtMs,
      roomBytes,
      said,
      made: undefined,
    });
    this.#schedule(limits.contentFlushMs);
  }

  /** What ended before the call is in the database. @throws HubError `database_unavailable` */
  async flush(): Promise<void> {
    // A run under way may have looked before the last one ended.
    await this.#running?.catch(() => {});
    await this.#run();
  }

  /** Writes what waits, if the database answers, and drops the rest. */
  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    clearTimeout(this.#timer);
    this.#closed = true;
    await this.#sweeping;
    await this.flush().catch(() => {});
    for (const one of this.#waiting.splice(0)) {
      this.#room.give(one.roomBytes);
      this.#drop("closed");
    }
  }

  /** Deletes what has expired, brings forward what a project keeps no longer so long, renews the keys' seals. */
  async sweep(): Promise<void> {
    const { projects } = this.#options;
    for (const { id, contentLog } of projects()) {
      if (!contentLog || this.#retentions.get(id) === contentLog.retentionDays) continue;
      await this.store.shorten(id, contentLog.retentionDays);
      this.#retentions.set(id, contentLog.retentionDays);
    }
    await this.store.sweep();
    await this.store.rewrap();
  }

  #sweepQuietly(): Promise<void> {
    this.#sweeping ??= this.sweep()
      .catch((error) => {
        this.#options.logger.warn({ error: String(error) }, "contents were not swept");
      })
      .finally(() => {
        this.#sweeping = undefined;
      });
    return this.#sweeping;
  }

  #schedule(delayMs: number): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const { logger, limits } = this.#options;
      this.#run().then(
        () => {
          this.#retryMs = limits.contentFlushMs;
        },
        (error) => {
          logger.warn({ error: String(error) }, "contents wait for the database");
          this.#schedule(this.#retryMs);
          this.#retryMs = Math.min(this.#retryMs * 2, limits.contentRetryMsMax);
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
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, this.#options.limits.contentRowsMax);
      for (const one of batch) await this.#make(one);
      const contents = batch.flatMap(({ made, ...one }) => (made ? [{ ...one, ...made }] : []));
      const { written, failed } = await this.#write(contents);
      this.#waiting.splice(0, batch.length);
      for (const { roomBytes } of batch) this.#room.give(roomBytes);
      this.#options.kept.inc(written);
      this.#drop("failed", failed);
      this.#drop("key_gone", contents.length - written - failed);
    }
  }

  /** What the database does not take for its own sake is lost, and holds nothing up. @throws HubError `database_unavailable` */
  async #write(contents: readonly Content[]): Promise<{ written: number; failed: number }> {
    if (contents.length === 0) return { written: 0, failed: 0 };
    try {
      return { written: await this.store.write(contents), failed: 0 };
    } catch (error) {
      const isAway = error instanceof HubError && error.code === "database_unavailable";
      if (isAway && !isRefusal(error.cause)) throw error;
      if (contents.length > 1) {
        const sum = { written: 0, failed: 0 };
        for (const one of contents) {
          const { written, failed } = await this.#write([one]);
          sum.written += written;
          sum.failed += failed;
        }
        return sum;
      }
      this.#options.logger.warn({ error: String(error) }, "a content was not kept");
      return { written: 0, failed: 1 };
    }
  }

  /** From here on the request itself is let go. */
  async #make(one: Waiting): Promise<void> {
    const { said } = one;
    if (!said) return;
    try {
      one.made = await writeDocument(said, this.#options.limits.contentBytesMax);
    } catch (error) {
      const code = error instanceof HubError ? error.code : (error as Error).name;
      this.#options.logger.warn({ error: code }, "a content was not kept");
      this.#drop("failed");
    }
    one.said = undefined;
    const roomBytes = Math.min(one.roomBytes, waitingBytes + (one.made?.bytes.length ?? 0));
    this.#room.give(one.roomBytes - roomBytes);
    one.roomBytes = roomBytes;
  }

  #drop(reason: DropReason, count = 1): void {
    if (count > 0) this.#options.dropped.inc({ reason }, count);
  }
}

/** About what a request takes that is kept until it is written. */
function bytesOf(call: Call): number {
  const passed = call.passed?.();
  return Math.max(call.bodyBytes, passed ? charsIn(passed) : 0);
}

function charsIn(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 8;
  return Object.values(value).reduce((sum: number, one) => sum + charsIn(one), 16);
}

/** SQLSTATE classes 22 and 23: the row is at fault, and trying again would never help. */
function isRefusal(cause: unknown): boolean {
  const { code } = (cause ?? {}) as { code?: unknown };
  return typeof code === "string" && /^2[23]\w{3}$/.test(code);
}

/** What the least of them takes beside its texts. */
const waitingBytes = 1024;
const dayMs = 24 * 60 * 60_000;
