/** Keeps responses for as long as the operator says, each for its own project. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { appendTurn } from "../conversations/append.ts";
import { mayBeId, openAsk } from "../kept/ask.ts";

export type Item = Readonly<Record<string, unknown>> & { id: string };

export type KeptResponse = {
  id: string;
  previousId: string | undefined;
  /** As its client got it. */
  response: Readonly<Record<string, unknown>>;
  /** The items that the client sent, each with an id. */
  input: readonly Item[];
};

/** What was said, to be added to a conversation. */
export type Turn = { conversationId: string; items: readonly Item[] };

/** All that was said up to a response, and how large it is as JSON. */
export type History = { items: readonly unknown[]; bytes: number };

export type ResponseStore = {
  /**
   * Keeps a response, adds what was said to a conversation, or both: all of it or nothing.
   * @throws HubError `not_found` when the conversation was deleted meanwhile
   */
  keep(
    projectId: string,
    what: { kept: KeptResponse | undefined; turn: Turn | undefined },
  ): Promise<void>;
  /** @throws HubError `not_found` for another project's as for one that never was */
  get(projectId: string, id: string): Promise<KeptResponse>;
  /** @throws HubError `not_found` */
  delete(projectId: string, id: string): Promise<void>;
  /**
   * Input and output of a response and of all that it continues, the oldest first.
   * @throws HubError `previous_response_not_found`, `request_too_large`, `invalid_value` for one that still runs
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
  const ask = openAsk(sql, { timeoutMs, what: "responses" });
  const at = () => new Date(now()).toISOString();

  return {
    async keep(projectId, { kept, turn }) {
      await ask(async (transaction) => {
        if (turn) await appendTurn(transaction, { projectId, ...turn, now, retentionMs });
        if (kept) await insertResponse(transaction, { projectId, kept, now, retentionMs });
      });
    },

    async get(projectId, id) {
      if (!mayBeId(id)) throw noSuchResponse(id);
      const [row] = await ask(
        (transaction) => transaction<Row[]>`
          select id, previous_id, response, input from gateway.responses
          where id = ${id} and project_id = ${projectId} and expires_at > ${at()}`,
      );
      if (!row) throw noSuchResponse(id);
      const { previous_id, response, input } = row;
      return { id, previousId: previous_id ?? undefined, response, input };
    },

    async delete(projectId, id) {
      if (!mayBeId(id)) throw noSuchResponse(id);
      const deleted = await ask(
        (transaction) => transaction`
          delete from gateway.responses where id = ${id} and project_id = ${projectId}`,
      );
      if (deleted.count === 0) throw noSuchResponse(id);
    },

    async history(projectId, id) {
      if (!mayBeId(id)) throw noSuchPrevious(id);
      const rows = await ask(async (transaction) => {
        // Sizes first: what is too large is not read to find that out.
        const chain = await transaction<{ id: string; bytes: number }[]>`
          with recursive chain as (
            select id, previous_id, 1 as depth from gateway.responses
            where id = ${id} and project_id = ${projectId} and expires_at > ${at()}
            union all
            select older.id, older.previous_id, depth + 1
            from gateway.responses older join chain on older.id = chain.previous_id
            where older.project_id = ${projectId} and depth < ${depthMax}
          )
          select chain.id, coalesce(history_bytes,
            octet_length(response::text) + octet_length(input::text)) as bytes
          from chain join gateway.responses using (id) order by depth desc`;
        if (chain.length === 0) throw noSuchPrevious(id);
        if (chain.reduce((sum, one) => sum + one.bytes, 0) > historyBytesMax) {
          throw tooLong(historyBytesMax);
        }
        const ids = chain.map((one) => one.id);
        const found = await transaction<Pick<Row, "id" | "response" | "input">[]>`
          select id, response, input from gateway.responses where id in ${transaction(ids)}`;
        const byId = new Map(found.map((row) => [row.id, row]));
        return ids.flatMap((one) => byId.get(one) ?? []);
      });
      if (rows.some(({ response }) => isUnfinished(response))) throw stillRuns(id);
      const items = rows.flatMap(({ input, response: { output } }) => [
        ...input,
        ...(Array.isArray(output) ? output : []),
      ]);
      const bytes = Buffer.byteLength(JSON.stringify(items));
      if (bytes > historyBytesMax) throw tooLong(historyBytesMax);
      return { items, bytes };
    },
  };
}

export async function insertResponse(
  transaction: postgres.TransactionSql,
  about: { projectId: string; kept: KeptResponse; now: () => number; retentionMs: number },
): Promise<void> {
  const { projectId, kept, now, retentionMs } = about;
  const { id, previousId, response, input } = kept;
  const [createdAt, expiresAt] = [now(), now() + retentionMs].map((ms) =>
    new Date(ms).toISOString(),
  ) as [string, string];
  const inputText = JSON.stringify(input);
  await transaction`
    insert into gateway.responses
      (id, project_id, created_at, expires_at, previous_id, response, input, history_bytes)
    values (${id}, ${projectId}, ${createdAt}, ${expiresAt}, ${previousId ?? null},
      ${JSON.stringify(response)}::text::json, ${inputText}::text::json,
      ${historyBytes(response, inputText)})`;
}

/** Replaces a response that was kept before it was finished. */
export async function updateResponse(
  transaction: postgres.TransactionSql,
  { id, response }: Pick<KeptResponse, "id" | "response">,
): Promise<void> {
  const outputBytes = historyBytes(response, "");
  await transaction`
    update gateway.responses set response = ${JSON.stringify(response)}::text::json,
      history_bytes = octet_length(input::text) + ${outputBytes}::integer
    where id = ${id}`;
}

function historyBytes({ output }: KeptResponse["response"], inputText: string): number {
  return Buffer.byteLength(inputText) + Buffer.byteLength(JSON.stringify(output ?? []));
}

function isUnfinished({ status }: KeptResponse["response"]): boolean {
  return status === "queued" || status === "in_progress";
}

type Row = {
  id: string;
  previous_id: string | null;
  response: Record<string, unknown>;
  input: Item[];
};

export function noSuchPrevious(id: string): HubError {
  return new HubError(
    "previous_response_not_found",
    `Previous response with id '${id.slice(0, 100)}' not found.`,
    { param: "previous_response_id" },
  );
}

export function noSuchResponse(id: string): HubError {
  return new HubError("not_found", `Response with id '${id.slice(0, 100)}' not found.`);
}

function stillRuns(id: string): HubError {
  return new HubError(
    "invalid_value",
    `The response '${id.slice(0, 100)}', or one before it, has not been finished yet. Continue it when it is.`,
    { param: "previous_response_id" },
  );
}

function tooLong(historyBytesMax: number): HubError {
  return new HubError(
    "request_too_large",
    `The conversation before this request is larger than ${historyBytesMax} bytes. Begin a new one.`,
    { param: "previous_response_id" },
  );
}

/** A conversation of more turns is cut at its beginning. */
const depthMax = 10_000;
