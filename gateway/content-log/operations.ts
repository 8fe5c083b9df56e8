/** The addresses of contents, as the OpenAPI document tells them. */
import { z } from "zod";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";

const content = z.looseObject({
  id: z.string(),
  object: z.literal("request.content"),
  project_id: z.string(),
  at: z.string(),
  expires_at: z.string(),
  truncated: z.boolean(),
  dialect: z.string(),
  stream: z.boolean(),
  complete: z.boolean(),
  redacted: z.record(z.string(), z.int()),
  prompt: z.unknown(),
  answer: z.unknown(),
});

export const contentOperations: readonly Operation[] = [
  {
    method: "get",
    path: "/api/requests/{id}/content",
    id: "getRequestContent",
    tag: "Reports",
    summary: "What was said in a request, where it is kept; the audit log has who read it",
    access: "admin",
    answers: { 200: json("The content.", content) },
    codes: [...databaseCodes, "not_found", "content_unreadable"],
  },
  {
    method: "delete",
    path: "/api/requests/{id}/content",
    id: "deleteRequestContent",
    tag: "Reports",
    summary: "Forgets what was said in a request",
    access: "admin",
    answers: {
      200: json("It is gone.", z.looseObject({ id: z.string(), deleted: z.literal(true) })),
    },
    codes: [...databaseCodes, "not_found"],
  },
  {
    method: "delete",
    path: "/api/contents",
    id: "deleteContents",
    tag: "Reports",
    summary: "Forgets what was said in a project, or by one end user of it",
    access: "admin",
    query: z.object({ project: z.string(), user: z.string().max(512).optional() }),
    answers: {
      200: json(
        "They are gone.",
        z.looseObject({ object: z.literal("contents.deleted"), deleted: z.int() }),
      ),
    },
    codes: databaseCodes,
  },
];
