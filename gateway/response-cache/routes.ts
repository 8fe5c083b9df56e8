/** `DELETE /api/cache`: forgets the kept answers of the project whose key asks, or that an administrator names. */
import type { Env, Hono } from "hono";
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { Fetcher } from "../../sdk/protocol/http.ts";
import { projectId } from "../../sdk/protocol/ids.ts";
import { noteEvent } from "../content-log/note-event.ts";
import type { Door } from "../http/door.ts";
import { readQuery, refuseUnknown, single } from "../reports/query.ts";
import type { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import type { ResponseCache } from "./response-cache.ts";

export type ResponseCacheRoutesParts = {
  cache: ResponseCache;
  registry: Fetcher;
  operatorKey: string;
  snapshot: () => SnapshotIndex;
  /** Who asks, as the audit log names them. @throws HubError for all but administrators */
  administrator: (request: Request) => Promise<string>;
};

export function mountResponseCache<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  parts: ResponseCacheRoutesParts,
): void {
  app.delete("/api/cache", async (c) => {
    const raw = readQuery(c.req.url);
    refuseUnknown(raw, Object.keys(purgeQuery.shape));
    const { project } = parseOrThrow(purgeQuery, raw);
    const id =
      project === undefined
        ? door.principalOf(c).project.id
        : await namedByAdministrator(c.req.raw, project, parts);
    const purged = await parts.cache.purge(id).catch((cause: unknown) => {
      throw new HubError(
        "database_unavailable",
        "The response cache does not answer, so what it holds of this project could not be forgotten. Try again in a moment.",
        { cause, retryAfterMs: 1000 },
      );
    });
    return door.json(c, { object: "response_cache.purged", purged });
  });
  door.refuseOthers("/api/cache", "DELETE");
}

/** The audit log has who asked, before anything is forgotten. @throws HubError `permission_denied`, `not_found` */
async function namedByAdministrator(
  request: Request,
  id: string,
  { administrator, snapshot, ...audit }: ResponseCacheRoutesParts,
): Promise<string> {
  const actor = await administrator(request);
  if (!snapshot().project(id)) {
    throw new HubError("not_found", `There is no project '${id}'.`);
  }
  await noteEvent(
    request,
    { type: "response_cache.purged", subject: id, projectId: id, actor },
    audit,
  );
  return id;
}

/** An administrator's; absent is the key's own. */
const purgeQuery = z.object({ project: single(projectId).optional() });
