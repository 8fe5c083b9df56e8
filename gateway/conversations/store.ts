/** Keeps conversations, each for its own project, for as long after its last item as the operator says. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { mayBeId, openAsk } from "../kept/ask.ts";
import { keptId } from "../kept/ids.ts";
import type { Metadata } from "../kept/metadata.ts";
import { noSuchCursor, type Page, type PageQuery } from "../kept/pages.ts";
import type { History, Item } from "../responses/store.ts";
import { appendTurn, noSuchConversation } from "./append.ts";

export type Conversation = { id: string; createdAtMs: number; metadata: Metadata };

/** All throw `not_found` for another project's conversation as for one that never was. */
export type ConversationStore = {
  /** @throws HubError `request_too_large` */
  create(
    projectId: string,
    given: { metadata: Metadata; items: readonly Item[] },
  ): Promise<Conversation>;
  get(projectId: string, id: string): Promise<Conversation>;
  update(projectId: string, id: string, metadata: Metadata): Promise<Conversation>;
  delete(projectId: string, id: string): Promise<void>;
  /** @throws HubError `request_too_large` */
  addItems(projectId: string, id: string, items: readonly Item[]): Promise<void>;
  listItems(projectId: string, id: string, query: PageQuery): Promise<Page<Item>>;
  getItem(projectId: string, id: string, itemId: string): Promise<Item>;
  deleteItem(projectId: string, id: string, itemId: string): Promise<Conversation>;
  /** All of it, for a model. @throws HubError `request_too_large` */
  history(projectId: string, id: string): Promise<History>;
};

export type ConversationStoreOptions = {
  sql: postgres.Sql;
  now: () => number;
  retentionMs: number;
  /** Of one project. */
  conversationsMax: number;
  /** Of one conversation. */
  itemsMax: number;
  bytesMax: number;
  timeoutMs: number;
};

export function openConversationStore(options: ConversationStoreOptions): ConversationStore {
  const { sql, now, retentionMs, conversationsMax, itemsMax, bytesMax, timeoutMs } = options;
  const ask = openAsk(sql, { timeoutMs, what: "conversations" });
  const at = (later = 0) => new Date(now() + later).toISOString();
  const most = { items: itemsMax, bytes: bytesMax };

  async function find(
    transaction: postgres.TransactionSql,
    projectId: string,
    id: string,
  ): Promise<Row> {
    if (!mayBeId(id)) throw noSuchConversation(id);
    const [row] = await transaction<Row[]>`
      select id, extract(epoch from created_at)::double precision * 1000 as created_at_ms, metadata,
        items, bytes::double precision as bytes
      from gateway.conversations
      where id = ${id} and project_id = ${projectId} and expires_at > ${at()}`;
    if (!row) throw noSuchConversation(id);
    return row;
  }

  return {
    async create(projectId, { metadata, items }) {
      const id = keptId("conv", now());
      const createdAtMs = now();
      await ask(async (transaction) => {
        // Those that begin in the same moment may be a few more.
        const [kept] = await transaction<{ isFull: boolean }[]>`
          select exists (
            select from gateway.conversations where project_id = ${projectId}
            offset ${conversationsMax - 1}) as "isFull"`;
        if (kept?.isFull) throw tooMany(conversationsMax);
        await transaction`
          insert into gateway.conversations
            (id, project_id, created_at, expires_at, metadata, next_position, items, bytes)
          values (${id}, ${projectId}, ${at()}, ${at(retentionMs)},
            ${JSON.stringify(metadata)}::text::jsonb, 0, 0, 0)`;
        const turn = { conversationId: id, items };
        await appendTurn(transaction, { projectId, ...turn, now, retentionMs, most });
      });
      return { id, createdAtMs, metadata };
    },

    get: (projectId, id) =>
      ask(async (transaction) => toConversation(await find(transaction, projectId, id))),

    update: (projectId, id, metadata) =>
      ask(async (transaction) => {
        const row = await find(transaction, projectId, id);
        await transaction`
          update gateway.conversations set metadata = ${JSON.stringify(metadata)}::text::jsonb
          where id = ${id}`;
        return toConversation({ ...row, metadata });
      }),

    delete: (projectId, id) =>
      ask(async (transaction) => {
        await find(transaction, projectId, id);
        await transaction`delete from gateway.conversations where id = ${id}`;
      }),

    addItems: (projectId, id, items) =>
      ask((transaction) =>
        appendTurn(transaction, { projectId, conversationId: id, items, now, retentionMs, most }),
      ),

    listItems: (projectId, id, { limit, order, after }) =>
      ask(async (transaction) => {
        await find(transaction, projectId, id);
        let from: number | undefined;
        if (after !== undefined) {
          from = await placeOf(transaction, id, after);
          if (from === undefined) throw noSuchCursor(after);
        }
        const ascending = order === "asc";
        const beyond = ascending
          ? transaction`and position > ${from ?? -1}`
          : transaction`and position < ${from ?? Number.MAX_SAFE_INTEGER}`;
        const direction = ascending ? transaction`asc` : transaction`desc`;
        const rows = await transaction<{ item: Item }[]>`
          select item from gateway.conversation_items
          where conversation_id = ${id} ${beyond}
          order by position ${direction} limit ${limit + 1}`;
        const data = rows.slice(0, limit).map(({ item }) => item);
        return { data, hasMore: rows.length > limit };
      }),

    getItem: (projectId, id, itemId) =>
      ask(async (transaction) => {
        await find(transaction, projectId, id);
        const position = await placeOf(transaction, id, itemId);
        if (position === undefined) throw noSuchItem(id, itemId);
        const [row] = await transaction<{ item: Item }[]>`
          select item from gateway.conversation_items
          where conversation_id = ${id} and position = ${position}`;
        if (!row) throw noSuchItem(id, itemId);
        return row.item;
      }),

    deleteItem: (projectId, id, itemId) =>
      ask(async (transaction) => {
        const row = await find(transaction, projectId, id);
        if (!mayBeId(itemId)) throw noSuchItem(id, itemId);
        const gone = await transaction<{ bytes: number }[]>`
          delete from gateway.conversation_items
          where conversation_id = ${id} and id = ${itemId} returning bytes`;
        if (gone.length === 0) throw noSuchItem(id, itemId);
        const bytes = gone.reduce((sum, one) => sum + one.bytes, 0);
        await transaction`
          update gateway.conversations
          set items = items - ${gone.length}::integer, bytes = bytes - ${bytes}::bigint
          where id = ${id}`;
        return toConversation(row);
      }),

    history: (projectId, id) =>
      ask(async (transaction) => {
        const { items, bytes } = await find(transaction, projectId, id).catch((error) => {
          throw error instanceof HubError && error.code === "not_found"
            ? new HubError("not_found", error.message, { param: "conversation" })
            : error;
        });
        if (items > itemsMax || bytes > bytesMax) {
          throw new HubError(
            "request_too_large",
            `The conversation has ${items} items and ${bytes} bytes of JSON; ${itemsMax} and ${bytesMax} are the most that can be continued. Begin a new one.`,
            { param: "conversation" },
          );
        }
        const rows = await transaction<{ item: Item }[]>`
          select item from gateway.conversation_items
          where conversation_id = ${id} order by position`;
        return { items: rows.map(({ item }) => item), bytes };
      }),
  };
}

type Row = { id: string; created_at_ms: number; metadata: Metadata; items: number; bytes: number };

function toConversation({ id, created_at_ms, metadata }: Row): Conversation {
  return { id, createdAtMs: created_at_ms, metadata };
}

async function placeOf(
  transaction: postgres.TransactionSql,
  conversationId: string,
  itemId: string,
): Promise<number | undefined> {
  if (!mayBeId(itemId)) return undefined;
  const [row] = await transaction<{ position: number }[]>`
    select position::double precision as position from gateway.conversation_items
    where conversation_id = ${conversationId} and id = ${itemId} order by position limit 1`;
  return row?.position;
}

function noSuchItem(id: string, itemId: string): HubError {
  return new HubError(
    "not_found",
    `Item with id '${itemId.slice(0, 100)}' not found in conversation '${id.slice(0, 100)}'.`,
  );
}

function tooMany(conversationsMax: number): HubError {
  return new HubError(
    "rate_limit_exceeded",
    `This project has ${conversationsMax} conversations, which is the most it may have. Delete some.`,
    { retryAfterMs: 60_000 },
  );
}
