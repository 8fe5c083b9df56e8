/** `/v1/chat/completions` after the answer: those that were stored, listed, read, labelled and deleted. */
import type { Context, Env, Hono } from "hono";
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { type BodyLimits, readJsonBody } from "../http/body.ts";
import type { Door } from "../http/door.ts";
import { metadata } from "../kept/metadata.ts";
import { pageOf, readPageQuery, toList } from "../kept/pages.ts";
import type { CompletionStore, StoredCompletion } from "./store.ts";

export function mountStoredCompletions<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  { store, limits }: { store: CompletionStore; limits: BodyLimits },
): void {
  const { json } = door;
  const projectOf = (c: Context<E>) => door.principalOf(c).project.id;

  app.get("/v1/chat/completions", async (c) => {
    const { searchParams } = new URL(c.req.url);
    const filter = {
      model: readModel(searchParams),
      metadata: readMetadataFilter(searchParams),
    };
    const page = await store.list(projectOf(c), filter, readPageQuery(searchParams, "asc"));
    return json(c, toList({ ...page, data: page.data.map(toObject) }));
  });
  app.get("/v1/chat/completions/:id", async (c) =>
    json(c, toObject(await store.get(projectOf(c), c.req.param("id")))),
  );
  app.post("/v1/chat/completions/:id", async (c) => {
    const projectId = projectOf(c);
    const { value } = await readJsonBody(c.req.raw, limits);
    const { metadata } = parseOrThrow(changedCompletion, value);
    return json(c, toObject(await store.update(projectId, c.req.param("id"), metadata ?? {})));
  });
  app.delete("/v1/chat/completions/:id", async (c) => {
    const id = c.req.param("id");
    await store.delete(projectOf(c), id);
    return json(c, { object: "chat.completion.deleted", id, deleted: true });
  });
  app.get("/v1/chat/completions/:id/messages", async (c) => {
    const projectId = projectOf(c);
    const query = readPageQuery(new URL(c.req.url).searchParams, "asc");
    const { id, messages } = await store.get(projectId, c.req.param("id"));
    return json(c, toList(pageOf(messages.map(toMessage(id)), query)));
  });
}

function toObject({
  id,
  metadata,
  completion,
}: Omit<StoredCompletion, "messages">): Record<string, unknown> & { id: string } {
  return { ...completion, id, metadata };
}

/** Parts stand apart, where OpenAI has them. */
function toMessage(completionId: string) {
  return (message: Readonly<Record<string, unknown>>, index: number) => {
    const { content, name = null } = message;
    const isList = Array.isArray(content);
    return {
      ...message,
      id: `${completionId}-${index}`,
      content: isList ? null : (content ?? null),
      name,
      refusal: null,
      content_parts: isList ? content : null,
    };
  };
}

function readModel(query: URLSearchParams): string | undefined {
  const model = query.get("model") ?? undefined;
  // No model has such a name, and the database would refuse the question.
  if (model?.includes("\0"))
    throw new HubError("invalid_value", "Invalid 'model'.", { param: "model" });
  return model;
}

/** `metadata[key]=value`, as the official clients write it. */
function readMetadataFilter(query: URLSearchParams): Record<string, string> {
  const pairs = [...query].flatMap(([name, value]) => {
    const key = /^metadata\[(.*)\]$/s.exec(name)?.[1];
    return key === undefined ? [] : [[key, value] as const];
  });
  return parseOrThrow(metadata, Object.fromEntries(pairs), "metadata.");
}

export const changedCompletion = z.strictObject({ metadata: metadata.nullable() });
