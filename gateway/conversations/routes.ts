/** `/v1/conversations`: what is said over several turns, kept so that a request need only name it. */
import type { Context, Env, Hono } from "hono";
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import { type BodyLimits, readJsonBody, refuseDeeper } from "../http/body.ts";
import type { Door } from "../http/door.ts";
import { keptId } from "../kept/ids.ts";
import { metadata } from "../kept/metadata.ts";
import { readList, readPageQuery, toList } from "../kept/pages.ts";
import { readInclude, readItems, showItem } from "./items.ts";
import type { Conversation, ConversationStore } from "./store.ts";

export function mountConversations<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  { store, limits, now }: { store: ConversationStore; limits: BodyLimits; now: () => number },
): void {
  const { json } = door;
  const projectOf = (c: Context<E>) => door.principalOf(c).project.id;
  const items = (given: readonly unknown[] | null | undefined) =>
    readItems(given ?? [], { param: "items", newId: (prefix) => keptId(prefix, now()) });

  app.post("/v1/conversations", async (c) => {
    const projectId = projectOf(c);
    const body = await readBody(c.req.raw, newConversation, limits);
    const given = { metadata: body.metadata ?? {}, items: items(body.items) };
    return json(c, toObject(await store.create(projectId, given)));
  });
  app.get("/v1/conversations/:id", async (c) =>
    json(c, toObject(await store.get(projectOf(c), c.req.param("id")))),
  );
  app.post("/v1/conversations/:id", async (c) => {
    const projectId = projectOf(c);
    const body = await readBody(c.req.raw, changedConversation, limits);
    return json(c, toObject(await store.update(projectId, c.req.param("id"), body.metadata ?? {})));
  });
  app.delete("/v1/conversations/:id", async (c) => {
    const id = c.req.param("id");
    await store.delete(projectOf(c), id);
    return json(c, { id, object: "conversation.deleted", deleted: true });
  });

  app.get("/v1/conversations/:id/items", async (c) => {
    const projectId = projectOf(c);
    const { searchParams } = new URL(c.req.url);
    const include = readInclude(readList(searchParams, "include"));
    const query = readPageQuery(searchParams, "desc");
    const page = await store.listItems(projectId, c.req.param("id"), query);
    return json(c, toList({ ...page, data: page.data.map((item) => showItem(item, include)) }));
  });
  app.post("/v1/conversations/:id/items", async (c) => {
    const projectId = projectOf(c);
    const include = readInclude(readList(new URL(c.req.url).searchParams, "include"));
    const body = await readBody(c.req.raw, newItems, limits);
    const added = items(body.items);
    await store.addItems(projectId, c.req.param("id"), added);
    const data = added.map((item) => showItem(item, include));
    return json(c, toList({ data, hasMore: false }));
  });
  app.get("/v1/conversations/:id/items/:item", async (c) => {
    const projectId = projectOf(c);
    const include = readInclude(readList(new URL(c.req.url).searchParams, "include"));
    const item = await store.getItem(projectId, c.req.param("id"), c.req.param("item"));
    return json(c, showItem(item, include));
  });
  app.delete("/v1/conversations/:id/items/:item", async (c) => {
    const { id, item } = c.req.param();
    return json(c, toObject(await store.deleteItem(projectOf(c), id, item)));
  });
}

function toObject({ id, createdAtMs, metadata }: Conversation): object {
  return { id, object: "conversation", created_at: Math.floor(createdAtMs / 1000), metadata };
}

async function readBody<S extends z.ZodType>(
  request: Request,
  schema: S,
  limits: BodyLimits,
): Promise<z.infer<S>> {
  const json = await readJsonBody(request, limits);
  const body = parseOrThrow(schema, json.value);
  refuseDeeper(json, limits.nestingMax);
  return body;
}

/** OpenAI's bound on one request; more come in several. */
const itemsAtOnceMax = 20;
export const newConversation = z.strictObject({
  metadata: metadata.nullish(),
  items: z.array(z.unknown()).max(itemsAtOnceMax).nullish(),
});
export const changedConversation = z.strictObject({ metadata: metadata.nullable() });
export const newItems = z.strictObject({ items: z.array(z.unknown()).min(1).max(itemsAtOnceMax) });
