/** `GET /api/requests/stream`: each request as it is settled, by any gateway on the database. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { formatSse, sseKeepAlive } from "../../sdk/protocol/sse.ts";
import type { GatewayLimits } from "../config.ts";
import {
  matches,
  type RequestFilters,
  type RequestRow,
  requestColumns,
  toRequest,
  type Viewer,
} from "./request-row.ts";

export type LiveLogLimits = Pick<
  GatewayLimits,
  "liveLogSubscribersMax" | "liveLogRowsMax" | "liveLogPollMs" | "keepAliveMs"
>;

export type Subscription = {
  filters: RequestFilters;
  viewer: Viewer;
  /** Asked again while it lasts. @throws HubError once the key is no longer good */
  authorize: () => unknown;
};

/**
 * One look at the database at a time serves all who follow, and none is taken while nobody does. Rows come in the
 * order of the transactions that wrote them, and only once no older one is under way, so none is passed over.
 */
export class LiveLog {
  readonly #sql: postgres.Sql;
  readonly #limits: LiveLogLimits;
  readonly #followers = new Set<Follower>();
  #cursor: { transaction: string; id: string } | undefined;
  #polling: Promise<void> | undefined;
  #stop = new AbortController();

  constructor({ sql, limits }: { sql: postgres.Sql; limits: LiveLogLimits }) {
    this.#sql = sql;
    this.#limits = limits;
  }

  /**
   * What is settled from now on, as server-sent events: `request` with the row, and `lost` with a count before the
   * next one where the reader was too slow.
   * @throws HubError `server_is_overloaded`
   */
  async follow(subscription: Subscription): Promise<ReadableStream<Uint8Array>> {
    const { liveLogSubscribersMax, liveLogRowsMax } = this.#limits;
    if (this.#followers.size >= liveLogSubscribersMax || this.#stop.signal.aborted) {
      throw new HubError(
        "server_is_overloaded",
        `${liveLogSubscribersMax} readers follow the log of this gateway already.`,
        { retryAfterMs: 5_000 },
      );
    }
    const follower = new Follower(subscription, liveLogRowsMax, () =>
      this.#followers.delete(follower),
    );
    this.#followers.add(follower);
    try {
      if (this.#cursor === undefined) {
        const transaction = await this.#oldestUnderWay();
        // Somebody else may have begun meanwhile.
        this.#cursor ??= { transaction, id: "" };
      }
    } catch (error) {
      this.#followers.delete(follower);
      throw error;
    }
    follower.say(": following\n\n");
    this.#polling ??= this.#poll().finally(() => {
      this.#polling = undefined;
      this.#cursor = undefined;
    });
    return follower.stream;
  }

  /** Ends every stream. */
  async close(): Promise<void> {
    this.#stop.abort();
    for (const follower of this.#followers) follower.end();
    await this.#polling;
  }

  async #poll(): Promise<void> {
    const { liveLogPollMs, keepAliveMs } = this.#limits;
    let silentMs = 0;
    while (this.#followers.size > 0 && !this.#stop.signal.aborted) {
      const rows = await this.#newRows();
      silentMs = rows.length > 0 ? 0 : silentMs + liveLogPollMs;
      const isDue = silentMs >= keepAliveMs;
      if (isDue) silentMs = 0;
      const telling = [...this.#followers].map(async (follower) => {
        if ((await follower.tell(rows)) && isDue) follower.say(sseKeepAlive);
      });
      await Promise.all(telling);
      if (rows.length < pageRows) await pause(liveLogPollMs, this.#stop.signal);
    }
  }

  /** None while the database is away: what is settled meanwhile comes when it is back. */
  async #newRows(): Promise<RequestRow[]> {
    const sql = this.#sql;
    const cursor = this.#cursor;
    if (!cursor) return [];
    try {
      const rows = await sql`
        select ${requestColumns(sql)}, ingested_by::text as transaction from billing.requests
        where (ingested_by, request_id) > (${cursor.transaction}::text::bigint, ${cursor.id})
          and ingested_by < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        order by ingested_by, request_id limit ${pageRows}`;
      const last = rows.at(-1);
      if (last) this.#cursor = { transaction: last.transaction, id: last.request_id };
      return rows.map(toRequest);
    } catch {
      return [];
    }
  }

  async #oldestUnderWay(): Promise<string> {
    const [row] = await this.#sql`
      select pg_snapshot_xmin(pg_current_snapshot())::text as transaction`;
    return row?.transaction as string;
  }
}

class Follower {
  readonly stream: ReadableStream<Uint8Array>;
  readonly #subscription: Subscription;
  readonly #leave: () => void;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #lost = 0;
  /** Whoever is asked whether it may go on may answer when it is over. */
  #isOver = false;

  constructor(subscription: Subscription, rowsMax: number, leave: () => void) {
    this.#subscription = subscription;
    this.#leave = () => {
      this.#isOver = true;
      leave();
    };
    this.stream = new ReadableStream(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        cancel: this.#leave,
      },
      { highWaterMark: rowsMax },
    );
  }

  /** @returns whether it goes on */
  async tell(rows: readonly RequestRow[]): Promise<boolean> {
    const { filters, viewer, authorize } = this.#subscription;
    try {
      await authorize();
    } catch {
      this.end();
      return false;
    }
    for (const row of rows) {
      if (!matches(row, filters, viewer)) continue;
      if (!this.#hasRoom(this.#lost > 0 ? 2 : 1)) {
        this.#lost++;
        continue;
      }
      this.#tellLost();
      this.say(formatSse(JSON.stringify(row), "request"));
    }
    if (this.#hasRoom(1)) this.#tellLost();
    return true;
  }

  say(text: string): void {
    if (this.#hasRoom(1)) this.#controller.enqueue(encoder.encode(text));
  }

  end(): void {
    if (this.#isOver) return;
    this.#leave();
    this.#controller.close();
  }

  #tellLost(): void {
    if (this.#lost === 0) return;
    this.say(formatSse(JSON.stringify({ count: this.#lost }), "lost"));
    this.#lost = 0;
  }

  #hasRoom(chunks: number): boolean {
    return !this.#isOver && (this.#controller.desiredSize ?? 0) >= chunks;
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms).unref();
    signal.addEventListener("abort", done);
  });
}

const pageRows = 1000;
const encoder = new TextEncoder();
