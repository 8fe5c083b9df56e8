/** Keeps chat completions whose clients ask for it, for as long as the operator says, each for its own project. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { mayBeId, openAsk } from "../kept/ask.ts";
import type { Metadata } from "../kept/metadata.ts";
import { noSuchCursor, type Page, type PageQuery } from "../kept/pages.ts";

export type StoredCompletion = {
  id: string;
  /** As the client named it, and as the answer does. */
  requestedModel: string;
  answeredModel: string;
  metadata: Metadata;
  /** The answer, with what was asked for. */
  completion: Readonly<Record<string, unknown>>;
  /** As the client sent them. */
  messages: readonly Readonly<Record<string, unknown>>[];
};

export type CompletionFilter = { model?: string | undefined; metadata: Metadata };

/** All but `keep` and `list` throw `not_found` for another project's as for one that never was. */
export type CompletionStore = {
  /** @throws HubError `already_exists` when the upstream has given this id before */
  keep(projectId: string, completion: StoredCompletion): Promise<void>;
  get(projectId: string, id: string): Promise<StoredCompletion>;
  list(
    projectId: string,
    filter: CompletionFilter,
    query: PageQuery,
  ): Promise<Page<Omit<StoredCompletion, "messages">>>;
  update(projectId: string, id: string, metadata: Metadata): Promise<StoredCompletion>;
  delete(projectId: string, id: string): Promise<void>;
};

export type CompletionStoreOptions = {
  sql: postgres.Sql;
  now: () => number;
  retentionMs: number;
  timeoutMs: number;
};

export function openCompletionStore(options: CompletionStoreOptions): CompletionStore {
  const { sql, now, retentionMs, timeoutMs } = options;
  const ask = openAsk(sql, { timeoutMs, what: "chat completions" });
  const at = (later = 0) => new Date(now() + later).toISOString();

  return {
    async keep(projectId, completion) {
      const { id, requestedModel, answeredModel, metadata, messages } = completion;
      const inserted = await ask(
        (transaction) => transaction`
          insert into gateway.chat_completions (project_id, id, created_at, expires_at,
            requested_model, answered_model, metadata, completion, messages)
          values (${projectId}, ${id}, ${at()}, ${at(retentionMs)},
            ${requestedModel}, ${answeredModel}, ${JSON.stringify(metadata)}::text::jsonb,
            ${JSON.stringify(completion.completion)}::text::json,
            ${JSON.stringify(messages)}::text::json)
          on conflict do nothing`,
      );
      if (inserted.count === 0) {
        throw new HubError("already_exists", "The upstream has given this answer's id before.");
      }
    },

    async get(projectId, id) {
      if (!mayBeId(id)) throw noSuchCompletion(id);
      const [row] = await ask(
        (transaction) => transaction<Row[]>`
          select id, requested_model, answered_model, metadata, completion, messages
          from gateway.chat_completions
          where project_id = ${projectId} and id = ${id} and expires_at > ${at()}`,
      );
      if (!row) throw noSuchCompletion(id);
      return { ...toCompletion(row), messages: row.messages };
    },

    list: (projectId, { model, metadata }, { limit, order, after }) =>
      ask(async (transaction) => {
        const nothing = transaction``;
        if (after !== undefined) {
          const [known] = mayBeId(after)
            ? await transaction`
                select 1 from gateway.chat_completions
                where project_id = ${projectId} and id = ${after} and expires_at > ${at()}`
            : [];
          if (!known) throw noSuchCursor(after);
        }
        const direction = order === "asc" ? transaction`asc` : transaction`desc`;
        const comparison = order === "asc" ? transaction`>` : transaction`<`;
        const rows = await transaction<Omit<Row, "messages">[]>`
          select id, requested_model, answered_model, metadata, completion
          from gateway.chat_completions
          where project_id = ${projectId} and expires_at > ${at()}
            and metadata @> ${JSON.stringify(metadata)}::text::jsonb
            ${model === undefined ? nothing : transaction`and ${model} in (requested_model, answered_model)`}
            ${
              after === undefined
                ? nothing
                : transaction`and (created_at, id) ${comparison} (
                    select created_at, id from gateway.chat_completions
                    where project_id = ${projectId} and id = ${after})`
            }
          order by created_at ${direction}, id ${direction} limit ${limit + 1}`;
        return { data: rows.slice(0, limit).map(toCompletion), hasMore: rows.length > limit };
      }),

    async update(projectId, id, metadata) {
      if (!mayBeId(id)) throw noSuchCompletion(id);
      const [row] = await ask(
        (transaction) => transaction<Row[]>`
          update gateway.chat_completions set metadata = ${JSON.stringify(metadata)}::text::jsonb
          where project_id = ${projectId} and id = ${id} and expires_at > ${at()}
          returning id, requested_model, answered_model, metadata, completion, messages`,
      );
      if (!row) throw noSuchCompletion(id);
      return { ...toCompletion(row), messages: row.messages };
    },

    async delete(projectId, id) {
      if (!mayBeId(id)) throw noSuchCompletion(id);
      const deleted = await ask(
        (transaction) => transaction`
          delete from gateway.chat_completions where project_id = ${projectId} and id = ${id}`,
      );
      if (deleted.count === 0) throw noSuchCompletion(id);
    },
  };
}

type Row = {
  id: string;
  requested_model: string;
  answered_model: string;
  metadata: Metadata;
  completion: StoredCompletion["completion"];
  messages: StoredCompletion["messages"];
};

function toCompletion(row: Omit<Row, "messages">): Omit<StoredCompletion, "messages"> {
  const { id, requested_model, answered_model, metadata, completion } = row;
  return {
    id,
    requestedModel: requested_model,
    answeredModel: answered_model,
    metadata,
    completion,
  };
}

function noSuchCompletion(id: string): HubError {
  return new HubError("not_found", `No chat completion with id '${id.slice(0, 100)}' found.`);
}
