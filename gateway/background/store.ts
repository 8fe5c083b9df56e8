/**
 * Keeps what runs in the background where every gateway of one database sees it. A process that runs a response says
 * again and again that it lives; of one that no longer does, whoever asks finds the response failed. Leases are read on
 * the database's clock, so that no two gateways' clocks need agree.
 */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { appendTurn } from "../conversations/append.ts";
import { mayBeId, openAsk } from "../kept/ask.ts";
import {
  insertResponse,
  type KeptResponse,
  noSuchResponse,
  type Turn,
  updateResponse,
} from "../responses/store.ts";

export type ResponseObject = KeptResponse["response"];

/** Server-sent events whose numbers go from `first` to `last` without a gap. */
export type EventBatch = { first: number; last: number; frames: string };

export type RunState = {
  response: ResponseObject;
  running: boolean;
  /** Whether its events are kept; absent for a response that its client waited for. */
  streamed: boolean | undefined;
};

export type RunStore = {
  /** @throws HubError `rate_limit_exceeded` when the project runs as many as it may, `server_is_overloaded` when all do */
  begin(run: {
    projectId: string;
    owner: string;
    streamed: boolean;
    kept: KeptResponse;
  }): Promise<void>;
  /** Renews the leases of what a process runs, and of nothing that it has given up. @returns what it is still to run */
  beat(owner: string, ids: readonly string[]): Promise<Set<string>>;
  /** @returns false when the response is no longer this process's to run */
  note(
    run: { owner: string; id: string },
    news: { response?: ResponseObject; events?: EventBatch | undefined },
  ): Promise<boolean>;
  /** The end, all of it or nothing. @returns false when the response is no longer this process's to run */
  finish(
    run: { owner: string; id: string; projectId: string },
    end: { response: ResponseObject; events?: EventBatch | undefined; turn: Turn | undefined },
  ): Promise<boolean>;
  /** What can be read of any response now. @throws HubError `not_found` */
  look(projectId: string, id: string): Promise<RunState>;
  /** Ends it if it still runs. @throws HubError `not_found`, `invalid_value` for one that its client waited for */
  cancel(projectId: string, id: string): Promise<ResponseObject>;
  /**
   * Events after a number, the oldest first, and a bounded number of them. Where it no longer runs and there are none,
   * there will be none.
   */
  eventsAfter(id: string, after: number): Promise<{ running: boolean; batches: EventBatch[] }>;
};

export type RunStoreOptions = {
  sql: postgres.Sql;
  now: () => number;
  retentionMs: number;
  timeoutMs: number;
  /** After which a silent process is taken for dead. */
  leaseMs: number;
  /** Responses that run at one time: of one project, and of all on this database. */
  runsPerProjectMax: number;
  runsMax: number;
};

export function openRunStore(options: RunStoreOptions): RunStore {
  const { sql, now, retentionMs, timeoutMs, leaseMs, runsMax, runsPerProjectMax } = options;
  const ask = openAsk(sql, { timeoutMs, what: "background responses" });
  const lease = `${leaseMs} milliseconds`;

  /** Ends the run first, when its process is gone. */
  async function find(
    transaction: postgres.TransactionSql,
    projectId: string,
    id: string,
  ): Promise<RunState> {
    if (!mayBeId(id)) throw noSuchResponse(id);
    const [row] = await transaction<Row[]>`
      select response, running, streamed, lease_until < clock_timestamp() as lapsed
      from gateway.responses left join gateway.background_runs on response_id = id
      where id = ${id} and responses.project_id = ${projectId}
        and expires_at > ${new Date(now()).toISOString()}`;
    if (!row) throw noSuchResponse(id);
    const { response, running, streamed, lapsed } = row;
    if (running === null || streamed === null) {
      return { response, running: false, streamed: undefined };
    }
    if (!running || !lapsed) return { response, running, streamed };
    const failed = { ...response, status: "failed", error: lostError };
    const ended = await end(transaction, { id, response: failed, only: "lapsed" });
    return ended
      ? { response: failed, running: false, streamed }
      : find(transaction, projectId, id);
  }

  async function end(
    transaction: postgres.TransactionSql,
    run: { id: string; response: ResponseObject; only?: "lapsed"; owner?: string },
  ): Promise<boolean> {
    const { id, response, only, owner } = run;
    const ended = await transaction`
      update gateway.background_runs set running = false
      where response_id = ${id} and running
        ${only === "lapsed" ? transaction`and lease_until < clock_timestamp()` : transaction``}
        ${owner === undefined ? transaction`` : transaction`and owner = ${owner}`}`;
    if (ended.count === 0) return false;
    await updateResponse(transaction, { id, response });
    return true;
  }

  return {
    begin: ({ projectId, owner, streamed, kept }) =>
      ask(async (transaction) => {
        // One after another, so that two cannot both take the last place.
        await transaction`select pg_advisory_xact_lock(hashtext('switchyard.gateway.background'))`;
        const [counts] = await transaction<{ all: number; own: number }[]>`
          select count(*)::integer as all,
            (count(*) filter (where project_id = ${projectId}))::integer as own
          from gateway.background_runs where running and lease_until > clock_timestamp()`;
        if ((counts?.own ?? 0) >= runsPerProjectMax) throw projectIsFull(runsPerProjectMax);
        if ((counts?.all ?? 0) >= runsMax) throw allAreFull(runsMax);
        await insertResponse(transaction, { projectId, kept, now, retentionMs });
        await transaction`
          insert into gateway.background_runs
            (response_id, project_id, owner, lease_until, running, streamed)
          values (${kept.id}, ${projectId}, ${owner},
            clock_timestamp() + ${lease}::interval, true, ${streamed})`;
      }),

    beat: (owner, ids) =>
      ask(async (transaction) => {
        const rows = await transaction<{ response_id: string }[]>`
          update gateway.background_runs set lease_until = clock_timestamp() + ${lease}::interval
          where response_id in ${transaction([...ids])} and owner = ${owner} and running
          returning response_id`;
        return new Set(rows.map((row) => row.response_id));
      }),

    note: ({ owner, id }, { response, events }) =>
      ask(async (transaction) => {
        const own = await transaction`
          update gateway.background_runs set lease_until = clock_timestamp() + ${lease}::interval
          where response_id = ${id} and owner = ${owner} and running`;
        if (own.count === 0) return false;
        if (response) await updateResponse(transaction, { id, response });
        if (events) await insertEvents(transaction, id, events);
        return true;
      }),

    finish: ({ owner, id, projectId }, { response, events, turn }) =>
      ask(async (transaction) => {
        if (!(await end(transaction, { id, response, owner }))) return false;
        if (events) await insertEvents(transaction, id, events);
        // Of a conversation that was deleted meanwhile, the answer is kept all the same.
        if (turn) {
          await transaction
            .savepoint((inner) => appendTurn(inner, { projectId, ...turn, now, retentionMs }))
            .catch((error) => {
              if (!(error instanceof HubError)) throw error;
            });
        }
        return true;
      }),

    look: (projectId, id) => ask((transaction) => find(transaction, projectId, id)),

    cancel: (projectId, id) =>
      ask(async (transaction) => {
        const state = await find(transaction, projectId, id);
        if (state.streamed === undefined) {
          throw new HubError("invalid_value", "Cannot cancel a synchronous response.", {
            param: "response_id",
          });
        }
        if (!state.running) return state.response;
        const cancelled = { ...state.response, status: "cancelled" };
        if (await end(transaction, { id, response: cancelled })) return cancelled;
        return (await find(transaction, projectId, id)).response;
      }),

    eventsAfter: (id, after) =>
      ask(async (transaction) => {
        // First whether it runs: its end and its last events are written at once.
        const [run] = await transaction<{ running: boolean }[]>`
          select running and lease_until > clock_timestamp() as running
          from gateway.background_runs where response_id = ${id}`;
        const batches = await transaction<EventBatch[]>`
          select first, last, frames from gateway.response_events
          where response_id = ${id} and last > ${after}::integer order by first limit ${batchesMax}`;
        return { running: run?.running ?? false, batches: [...batches] };
      }),
  };
}

/** What was written although nobody waited for the answer any more is written again, with what came meanwhile. */
async function insertEvents(
  transaction: postgres.TransactionSql,
  id: string,
  { first, last, frames }: EventBatch,
): Promise<void> {
  await transaction`
    insert into gateway.response_events (response_id, first, last, frames)
    values (${id}, ${first}, ${last}, ${frames})
    on conflict (response_id, first) do update set last = excluded.last, frames = excluded.frames
      where response_events.last < excluded.last`;
}

type Row = {
  response: ResponseObject;
  running: boolean | null;
  streamed: boolean | null;
  lapsed: boolean | null;
};

function projectIsFull(most: number): HubError {
  return new HubError(
    "rate_limit_exceeded",
    `The project has ${most} responses running in the background, which is the most it may. Wait for one to end, or cancel one.`,
    { retryAfterMs: 1000 },
  );
}

function allAreFull(most: number): HubError {
  return new HubError(
    "server_is_overloaded",
    `This gateway has ${most} responses running in the background, which is the most it takes.`,
    { retryAfterMs: 1000 },
  );
}

/** As a response's `error`. */
const lostError = {
  code: "server_error",
  message: "The process that ran this response ended before the answer did. Ask again.",
};

/** Rows of one read; whoever follows reads on. */
const batchesMax = 32;
