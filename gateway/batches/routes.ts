/** OpenAI's `/v1/batches`. */
import type { Context, Env, Hono } from "hono";
import { z } from "zod";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import { tagsHeader, taskHeader } from "../../sdk/protocol/http.ts";
import { readJsonBody } from "../http/body.ts";
import type { Door } from "../http/door.ts";
import { readTags } from "../http/tags.ts";
import { refuseEndpoint } from "../identity/key-scopes.ts";
import type { Batch, BatchStore } from "./store.ts";

export type BatchRoutesParts = {
  batches: BatchStore;
  /** Has the runner look at once. */
  wake: () => void;
  limits: { requestBytesMax: number; requestValuesMax: number };
};

export function mountBatches<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  { batches, wake, limits }: BatchRoutesParts,
): void {
  const { json } = door;
  const asked = (c: Context<E>) =>
    [door.principalOf(c).project.id, c.req.param("id") ?? ""] as const;

  app.post("/v1/batches", async (c) => {
    const { project, key } = door.principalOf(c);
    const body = parseOrThrow(newBatch, (await readJsonBody(c.req.raw, limits)).value);
    // What a key may not ask for itself it has nobody else ask for.
    refuseEndpoint(key, { method: "POST", path: body.endpoint });
    const tags = c.req.header(tagsHeader);
    // Wrong ones are told now, and not by each of the lines.
    readTags(tags);
    const batch = await batches.create({
      projectId: project.id,
      keyId: key.id,
      endpoint: body.endpoint,
      inputFileId: body.input_file_id,
      completionWindow: body.completion_window,
      windowMs: windowMs(body.completion_window),
      metadata: body.metadata ?? undefined,
      outputExpiresAfter: body.output_expires_after?.seconds,
      tags,
      task: c.req.header(taskHeader),
    });
    wake();
    return json(c, toBatchObject(batch));
  });
  app.get("/v1/batches", async (c) => {
    const [projectId] = asked(c);
    const { limit, after } = parseOrThrow(batchPage, c.req.query());
    const found = await batches.list(projectId, { limit: limit + 1, after });
    const data = found.slice(0, limit).map(toBatchObject);
    return json(c, {
      object: "list",
      data,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: found.length > limit,
    });
  });
  app.get("/v1/batches/:id", async (c) => json(c, toBatchObject(await batches.get(...asked(c)))));
  app.post("/v1/batches/:id/cancel", async (c) => {
    const batch = await batches.cancel(...asked(c));
    wake();
    return json(c, toBatchObject(batch));
  });
  door.refuseOthers("/v1/batches", "GET or POST");
  door.refuseOthers("/v1/batches/:id", "GET");
  door.refuseOthers("/v1/batches/:id/cancel", "POST");
}

/** As OpenAI tells of a batch; what is not yet so is null. */
function toBatchObject(batch: Batch) {
  return {
    id: batch.id,
    object: "batch",
    endpoint: batch.endpoint,
    model: batch.model,
    errors: batch.errors === null ? null : { object: "list", data: batch.errors },
    input_file_id: batch.input_file_id,
    completion_window: batch.completion_window,
    status: batch.status,
    output_file_id: batch.output_file_id,
    error_file_id: batch.error_file_id,
    created_at: batch.created_at,
    in_progress_at: batch.in_progress_at,
    expires_at: batch.expires_at,
    finalizing_at: batch.finalizing_at,
    completed_at: batch.completed_at,
    failed_at: batch.failed_at,
    expired_at: batch.expired_at,
    cancelling_at: batch.cancelling_at,
    cancelled_at: batch.cancelled_at,
    request_counts: { total: batch.total, completed: batch.completed, failed: batch.failed },
    metadata: batch.metadata,
  };
}

/** OpenAI knows `24h` alone. */
function windowMs(window: string): number {
  const [, count, unit] = /^(\d+)([hd])$/.exec(window) ?? [];
  return Number(count) * (unit === "d" ? 24 : 1) * hourMs;
}

const hourMs = 60 * 60 * 1000;

export const newBatch = z.object({
  input_file_id: z.string().min(1).max(128),
  endpoint: z.enum([
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/moderations",
  ]),
  completion_window: z
    .string()
    .regex(
      /^(?:[1-9]\d?h|[1-7]d)$/,
      "expected hours or days, such as '24h'; seven days are the most",
    ),
  metadata: z
    .record(z.string().max(64), z.string().max(512))
    .refine((it) => Object.keys(it).length <= 16, "expected at most 16 pairs")
    .nullish(),
  output_expires_after: z
    .object({ anchor: z.literal("created_at"), seconds: z.int().min(3600).max(2_592_000) })
    .nullish(),
});
export const batchPage = z.object({
  // The official clients' own tests ask for 0.
  limit: z.coerce.number().int().min(0).max(100).default(20),
  after: z.string().optional(),
});
