/** `DELETE /api/cache`: forgets the kept answers of the project whose key asks. */
import type { Env, Hono } from "hono";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Door } from "../http/door.ts";
import type { ResponseCache } from "./response-cache.ts";

export function mountResponseCache<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  cache: ResponseCache,
): void {
  app.delete("/api/cache", async (c) => {
    const { id } = door.principalOf(c).project;
    const purged = await cache.purge(id).catch((cause: unknown) => {
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
