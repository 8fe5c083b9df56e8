/** Contents that are kept, for administrators alone: read and deleted, each noted in the audit log before it is done. */
import type { Context, Env, Hono } from "hono";
import { z } from "zod";
import type { ContentEvent } from "../../sdk/protocol/content-log.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { Fetcher } from "../../sdk/protocol/http.ts";
import { projectId, requestId } from "../../sdk/protocol/ids.ts";
import type { Door } from "../http/door.ts";
import { keptName } from "../identity/end-user.ts";
import { readQuery, refuseUnknown, single } from "../reports/query.ts";
import type { ContentLog } from "./content-log.ts";
import { readDocument } from "./document.ts";
import { noteEvent } from "./note-event.ts";

export type ContentRoutesParts = {
  log: ContentLog;
  registry: Fetcher;
  operatorKey: string;
  /** Who asks, as the audit log names them. @throws HubError for all but administrators */
  administrator: (request: Request) => Promise<string>;
};

export function mountContents<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  parts: ContentRoutesParts,
): void {
  const { log, administrator } = parts;
  const note = (c: Context<E>, event: ContentEvent) => noteEvent(c.req.raw, event, parts);
  const { store } = log;

  app.get("/api/requests/:id/content", async (c) => {
    const actor = await administrator(c.req.raw);
    const id = idOf(c);
    const content = await found(id);
    const { prompt, answer, ...about } = await readDocument(content.open());
    const { projectId, at, expiresAt, truncated } = content;
    await note(c, { type: "content.read", subject: id, projectId, actor });
    return door.json(c, {
      id,
      object: "request.content",
      project_id: projectId,
      at,
      expires_at: expiresAt,
      truncated,
      ...about,
      prompt: prompt ?? null,
      answer: answer ?? null,
    });
  });

  app.delete("/api/requests/:id/content", async (c) => {
    const actor = await administrator(c.req.raw);
    const id = idOf(c);
    const { projectId } = await found(id);
    await note(c, { type: "content.deleted", subject: id, projectId, actor });
    await store.delete(id);
    return door.json(c, { id, object: "request.content.deleted", deleted: true });
  });

  app.delete("/api/contents", async (c) => {
    const actor = await administrator(c.req.raw);
    const raw = readQuery(c.req.url);
    refuseUnknown(raw, Object.keys(deleteQuery.shape));
    const { project, user } = parseOrThrow(deleteQuery, raw);
    const detail = user === undefined ? {} : { user };
    await note(c, { type: "content.deleted", subject: project, projectId: project, actor, detail });
    await log.flush().catch(() => {});
    const deleted =
      user === undefined
        ? await store.deleteOfProject(project)
        : await store.deleteOfUser(project, keptName(user));
    return door.json(c, { object: "contents.deleted", project_id: project, deleted });
  });

  door.refuseOthers("/api/requests/:id/content", "GET or DELETE");
  door.refuseOthers("/api/contents", "DELETE");

  async function found(id: string) {
    // Whoever has seen an answer finds its content: what this gateway heard is written first.
    await log.flush().catch(() => {});
    const content = requestId.safeParse(id).success ? await store.find(id) : undefined;
    if (content) return content;
    throw new HubError(
      "not_found",
      `No content is kept of a request '${id.slice(0, 64)}'. It is of those whose project consents, until it expires or is deleted.`,
    );
  }
}

const idOf = (c: Context): string => c.req.param("id") ?? "";

const deleteQuery = z.object({
  project: single(projectId),
  /** An end user as the application named it; absent is all of the project. */
  user: single(z.string().min(1).max(512).optional()),
});
