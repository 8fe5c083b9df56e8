/** Adds items to a conversation, those of one turn together and in order, whoever else adds some at that time. */
import type postgres from "postgres";
import { HubError } from "../../sdk/protocol/errors.ts";
import { mayBeId } from "../kept/ask.ts";
import type { Item, Turn } from "../responses/store.ts";

export type Append = Turn & {
  projectId: string;
  now: () => number;
  /** A conversation is forgotten this long after something was added last. */
  retentionMs: number;
  /** What the conversation may come to; a turn that was answered is added whatever it comes to. */
  most?: { items: number; bytes: number };
};

/** @throws HubError `not_found`, `request_too_large` */
export async function appendTurn(
  transaction: postgres.TransactionSql,
  { projectId, conversationId, items, now, retentionMs, most }: Append,
): Promise<void> {
  if (!mayBeId(conversationId)) throw noSuchConversation(conversationId);
  const texts = items.map((item) => JSON.stringify(item));
  const sizes = texts.map((text) => Buffer.byteLength(text));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  // The row is locked by this, until all items are in.
  const [row] = await transaction<{ first: number; items: number; bytes: number }[]>`
    update gateway.conversations set
      next_position = next_position + ${items.length}::integer,
      items = items + ${items.length}::integer,
      bytes = bytes + ${bytes}::bigint,
      expires_at = ${new Date(now() + retentionMs).toISOString()}
    where id = ${conversationId} and project_id = ${projectId}
      and expires_at > ${new Date(now()).toISOString()}
    returning (next_position - ${items.length}::integer)::integer as first, items,
      bytes::double precision as bytes`;
  if (!row) throw noSuchConversation(conversationId);
  if (most && (row.items > most.items || row.bytes > most.bytes)) throw tooLarge(most);
  if (items.length === 0) return;
  await transaction`
    insert into gateway.conversation_items (conversation_id, position, id, item, bytes)
    select ${conversationId}, ${row.first}::integer + place - 1, id, item::json, size
    from unnest(${items.map(({ id }) => safeId(id))}::text[], ${texts}::text[], ${sizes}::integer[])
      with ordinality as given (id, item, size, place)`;
}

export function noSuchConversation(id: string): HubError {
  return new HubError("not_found", `Conversation with id '${id.slice(0, 100)}' not found.`);
}

function tooLarge(most: { items: number; bytes: number }): HubError {
  return new HubError(
    "request_too_large",
    `A conversation may have at most ${most.items} items and ${most.bytes} bytes of JSON. Begin a new one.`,
    { param: "items" },
  );
}

/** Upstreams choose the ids of what they say. */
function safeId(id: Item["id"]): string {
  return String(id).replaceAll("\0", "").slice(0, 512);
}
