/** `/v1/batches`, as the OpenAPI document tells it. */
import { z } from "zod";
import { listOf } from "../../sdk/protocol/openapi/lists.ts";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";
import { batchPage, newBatch } from "./routes.ts";

const seconds = z.int().nullable();
const batch = z.looseObject({
  id: z.string(),
  object: z.literal("batch"),
  endpoint: z.string(),
  status: z.string(),
  errors: z.looseObject({ object: z.literal("list"), data: z.array(z.looseObject({})) }).nullable(),
  input_file_id: z.string(),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  created_at: z.int(),
  expires_at: seconds,
  completed_at: seconds,
  request_counts: z.looseObject({ total: z.int(), completed: z.int(), failed: z.int() }),
});

const found = [...databaseCodes, "not_found", "unknown_url"] as const;

export const batchesOperations: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/batches",
    id: "createBatch",
    tag: "Files and batches",
    summary: "Runs the requests of a file, at the batch's price where there is one",
    access: "project",
    body: {
      schema: newBatch,
      example: {
        input_file_id: "file-unknown",
        endpoint: "/v1/chat/completions",
        completion_window: "24h",
      },
    },
    answers: { 200: json("The batch.", batch) },
    codes: [...found, "rate_limit_exceeded"],
  },
  {
    method: "get",
    path: "/v1/batches",
    id: "listBatches",
    tag: "Files and batches",
    summary: "The project's batches, the newest first, a page of them",
    access: "project",
    query: batchPage,
    answers: { 200: json("The batches.", listOf(batch)) },
    codes: found,
  },
  {
    method: "get",
    path: "/v1/batches/{id}",
    id: "retrieveBatch",
    tag: "Files and batches",
    summary: "How far a batch is",
    access: "project",
    answers: { 200: json("The batch.", batch) },
    codes: found,
  },
  {
    method: "post",
    path: "/v1/batches/{id}/cancel",
    id: "cancelBatch",
    tag: "Files and batches",
    summary: "Finishes what is under way, and begins nothing more",
    access: "project",
    answers: { 200: json("The batch.", batch) },
    codes: [...found, "invalid_state"],
  },
];
