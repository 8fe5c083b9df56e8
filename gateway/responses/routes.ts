/** `/v1/responses/:id`: what was kept of a response, read and deleted. */
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { ResponseStore } from "./store.ts";

type Asked = { store: ResponseStore; projectId: string; id: string };

/** @throws HubError `not_found` */
export async function retrieveResponse({ store, projectId, id }: Asked): Promise<unknown> {
  return (await store.get(projectId, id)).response;
}

/** @throws HubError `not_found` */
export async function deleteResponse({ store, projectId, id }: Asked): Promise<unknown> {
  await store.delete(projectId, id);
  return { id, object: "response", deleted: true };
}

/**
 * `GET /v1/responses/:id/input_items`, a page of them.
 * @throws HubError `not_found`, and what is wrong with the query
 */
export async function listInputItems(asked: Asked, url: string): Promise<unknown> {
  const { searchParams } = new URL(url);
  const { limit, order, after } = parseOrThrow(pageQuery, Object.fromEntries(searchParams));
  const { input } = await asked.store.get(asked.projectId, asked.id);
  const ordered = order === "asc" ? [...input] : input.toReversed();
  const start = after === undefined ? 0 : ordered.findIndex(({ id }) => id === after) + 1;
  const data = ordered.slice(start, start + limit);
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: start + limit < ordered.length,
  };
}

const pageQuery = z.object({
  // The official clients' own tests ask for 0.
  limit: z.coerce.number().int().min(0).max(100).default(20),
  order: z.enum(["asc", "desc"]).default("desc"),
  after: z.string().optional(),
});
