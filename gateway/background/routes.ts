/** What can be asked of a response that runs, or ran, in the background. */
import type { Context, Env, Hono } from "hono";
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import { openAiResponses } from "../dialects/openai-responses/index.ts";
import { streamedAnswer } from "../http/answers.ts";
import type { Door } from "../http/door.ts";
import type { BackgroundRuns } from "./runs.ts";

export function mountBackground<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  runs: BackgroundRuns,
): void {
  const { headers, json } = door;
  const projectOf = (c: Context<E>) => door.principalOf(c).project.id;

  app.get("/v1/responses/:id", async (c) => {
    const id = c.req.param("id");
    const { searchParams } = new URL(c.req.url);
    const { stream, starting_after } = parseOrThrow(streamQuery, Object.fromEntries(searchParams));
    if (stream !== "true") return json(c, await runs.retrieve(projectOf(c), id));
    const body = await runs.stream(projectOf(c), id, starting_after);
    return streamedAnswer(body, openAiResponses.streamType, headers(c));
  });
  app.post("/v1/responses/:id/cancel", async (c) =>
    json(c, await runs.cancel(projectOf(c), c.req.param("id"))),
  );
}

export const streamQuery = z.object({
  stream: z.enum(["true", "false"]).optional(),
  starting_after: z.coerce.number().int().min(-1).max(2_147_483_646).default(-1),
});
