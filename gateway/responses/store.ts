/** Keeps responses for as long as the operator says, each for its own project. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";

export type KeptResponse = {
  id: string;
  previousId: string | undefined;
  /** As its client got it. */
  response: Readonly<Record<string, unknown>>;
  /** The items that the client sent, each with an id. */
  input: readonly Readonly<Record<string, unknown>>[];
};

/** All that was said up to a response, and how large it is as JSON. */
export type History = { items: unknown[]; bytes: number };

export type ResponseStore = {
  keep(projectId: string, kept: KeptResponse): Promise<void>;
  /** @throws HubError `not_found` for another project's as for one that never was */
  get(projectId: string, id: string): Promise<KeptResponse>;
  /** @throws HubError `not_found` */
  delete(projectId: string, id: string): Promise<void>;
  /**
   * Input and output of a response and of all that it continues, the oldest first.
   * @throws HubError `previous_response_not_found`, `request_too_large`
   */
  history(projectId: string, id: string): Promise<History>;
};

export type ResponseStoreOptions = {
  sql: postgres.Sql;
  now: () => number;
  /** Milliseconds after which a response is forgotten. */
  retentionMs: number;
  /** JSON of a conversation that is continued. */
  historyBytesMax: number;
  /** How long the database may take; clients wait for it. */
  timeoutMs: number;
};

export function openResponseStore(options: ResponseStoreOptions): ResponseStore {
  const { sql, now, retentionMs, historyBytesMax, timeoutMs } = options;
  let forgottenAtMs = 0;
  const at = (later = 0) => new Date(now() + later).toISOString();

  /** Now and then, by whoever keeps something. */
  async function forgetExpired(): Promise<void> {
    if (now() - forgottenAtMs < forgetEveryMs) return;
    forgottenAtMs = now();
    await sql`delete from gateway.responses where expires_at < ${at()}`;
  }

  return {
    async keep(projectId, { id, previousId, response, input }) {
      const expiresAt = at(retentionMs);
      await inTime(
        sql`insert into gateway.responses
              (id, project_id, created_at, expires_at, previous_id, response, input)
            values (${id}, ${projectId}, ${at()}, ${expiresAt}, ${previousId ?? null},
              ${JSON.stringify(response)}::text::jsonb, ${JSON.stringify(input)}::text::jsonb)`,
        timeoutMs,
      );
      forgetExpired().catch(() => {});
    },

    async get(projectId, id) {
      if (!mayBeId(id)) throw noSuchResponse(id);
      const [row] = await inTime(
        sql<Row[]>`select id, previous_id, response, input from gateway.responses
          where id = ${id} and project_id = ${projectId} and expires_at > ${at()}`,
        timeoutMs,
      );
      if (!row) throw noSuchResponse(id);
      const { previous_id, response, input } = row;
      return { id, previousId: previous_id ?? undefined, response, input };
    },

    async delete(projectId, id) {
      if (!mayBeId(id)) throw noSuchResponse(id);
      const deleted = await inTime(
        sql`delete from gateway.responses where id = ${id} and project_id = ${projectId}`,
        timeoutMs,
      );
      if (deleted.count === 0) throw noSuchResponse(id);
    },

    async history(projectId, id) {
      if (!mayBeId(id)) throw noSuchPrevious(id);
      // Sizes first, and not as they lie compressed: what is too large is not read to find that out.
      const chain = await inTime(
        sql<{ id: string; bytes: number }[]>`
          with recursive chain as (
            select id, previous_id, 1 as depth from gateway.responses
            where id = ${id} and project_id = ${projectId} and expires_at > ${at()}
            union all
            select older.id, older.previous_id, depth + 1
            from gateway.responses older join chain on older.id = chain.previous_id
            where older.project_id = ${projectId} and depth < ${depthMax}
          )
          select chain.id,
            coalesce(octet_length((response->'output')::text), 0) + octet_length(input::text) as bytes
          from chain join gateway.responses using (id) order by depth desc`,
        timeoutMs,
      );
      if (chain.length === 0) throw noSuchPrevious(id);
      if (chain.reduce((sum, one) => sum + one.bytes, 0) > historyBytesMax) {
        throw tooLong(historyBytesMax);
      }
      const ids = chain.map((one) => one.id);
      const rows = await inTime(
        sql<Turn[]>`
          select id, response->'output' as output, input from gateway.responses
          where id in ${sql(ids)}`,
        timeoutMs,
      );
      const byId = new Map(rows.map((row) => [row.id, row]));
      const items = chain.flatMap((one) => {
        const { input = [], output } = byId.get(one.id) ?? {};
        return [...input, ...(Array.isArray(output) ? output : [])];
      });
      const bytes = Buffer.byteLength(JSON.stringify(items));
      if (bytes > historyBytesMax) throw tooLong(historyBytesMax);
      return { items, bytes };
    },
  };
}

type Row = {
  id: string;
  previous_id: string | null;
  response: Record<string, unknown>;
  input: Record<string, unknown>[];
};
type Turn = Pick<Row, "id" | "input"> & { output: unknown };

/** The database's texts have no such character, and it would refuse the question. */
function mayBeId(id: string): boolean {
  return !id.includes("\0");
}

function noSuchPrevious(id: string): HubError {
  return new HubError(
    "previous_response_not_found",
    `Previous response with id '${id.slice(0, 100)}' not found.`,
    { param: "previous_response_id" },
  );
}

function noSuchResponse(id: string): HubError {
  return new HubError("not_found", `Response with id '${id.slice(0, 100)}' not found.`);
}

function tooLong(historyBytesMax: number): HubError {
  return new HubError(
    "request_too_large",
    `The conversation before this request is larger than ${historyBytesMax} bytes. Begin a new one.`,
    { param: "previous_response_id" },
  );
}

/** @throws HubError `database_unavailable` when it does not answer, or not in time */
async function inTime<T>(query: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([query, late]);
  } catch (cause) {
    throw new HubError("database_unavailable", "The store of responses does not answer.", {
      cause,
      retryAfterMs: 1000,
    });
  } finally {
    clearTimeout(timer);
  }
}

/** A conversation of more turns is cut at its beginning. */
const depthMax = 10_000;
const forgetEveryMs = 60_000;
