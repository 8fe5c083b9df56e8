/** `/v1/responses/:id`: what was kept of a response, deleted, and its input listed. */
import type { Context, Env, Hono } from "hono";
import type { Door } from "../http/door.ts";
import { pageOf, readPageQuery, toList } from "../kept/pages.ts";
import type { ResponseStore } from "./store.ts";

export function mountResponses<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  store: ResponseStore,
): void {
  const { json } = door;
  const projectOf = (c: Context<E>) => door.principalOf(c).project.id;

  app.delete("/v1/responses/:id", async (c) => {
    const id = c.req.param("id");
    await store.delete(projectOf(c), id);
    return json(c, { id, object: "response", deleted: true });
  });
  app.get("/v1/responses/:id/input_items", async (c) => {
    const projectId = projectOf(c);
    const query = readPageQuery(new URL(c.req.url).searchParams, "desc");
    const { input } = await store.get(projectId, c.req.param("id"));
    return json(c, toList(pageOf(input, query)));
  });
}
