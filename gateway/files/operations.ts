/** `/v1/files` and `/v1/uploads`, as the OpenAPI document tells them. */
import { z } from "zod";
import { listOf } from "../../sdk/protocol/openapi/lists.ts";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";
import { completion, fileFields, filePage, newUpload } from "./routes.ts";

const file = z.looseObject({
  id: z.string(),
  object: z.literal("file"),
  bytes: z.int(),
  created_at: z.int(),
  expires_at: z.int().optional(),
  filename: z.string(),
  purpose: z.string(),
  status: z.string(),
});
const upload = z.looseObject({
  id: z.string(),
  object: z.literal("upload"),
  status: z.enum(["pending", "completed", "cancelled", "expired"]),
  file: file.nullable(),
});
const deleted = z.looseObject({
  id: z.string(),
  object: z.literal("file"),
  deleted: z.literal(true),
});
const part = z.looseObject({ id: z.string(), object: z.literal("upload.part") });
const binary = z.string().meta({ format: "binary" });

const found = [...databaseCodes, "not_found", "unknown_url"] as const;
const taken = [...databaseCodes, "storage_full", "server_is_overloaded", "shutting_down"] as const;

export const filesOperations: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/files",
    id: "createFile",
    tag: "Files and batches",
    summary: "Takes in a file; its bytes go to the database as they come",
    access: "project",
    body: { type: "multipart/form-data", schema: fileFields.extend({ file: binary }) },
    answers: { 200: json("The file.", file) },
    codes: taken,
  },
  {
    method: "get",
    path: "/v1/files",
    id: "listFiles",
    tag: "Files and batches",
    summary: "The project's files, a page of them",
    access: "project",
    query: filePage,
    answers: { 200: json("The files.", listOf(file)) },
    codes: found,
  },
  {
    method: "get",
    path: "/v1/files/{id}",
    id: "retrieveFile",
    tag: "Files and batches",
    summary: "What is known of a file",
    access: "project",
    answers: { 200: json("The file.", file) },
    codes: found,
  },
  {
    method: "delete",
    path: "/v1/files/{id}",
    id: "deleteFile",
    tag: "Files and batches",
    summary: "Removes a file that no batch is reading",
    access: "project",
    answers: { 200: json("It is gone.", deleted) },
    codes: [...found, "invalid_state"],
  },
  {
    method: "get",
    path: "/v1/files/{id}/content",
    id: "downloadFile",
    tag: "Files and batches",
    summary: "A file's bytes",
    access: "project",
    answers: { 200: { says: "The bytes.", content: { "application/octet-stream": binary } } },
    codes: found,
  },
  {
    method: "post",
    path: "/v1/uploads",
    id: "createUpload",
    tag: "Files and batches",
    summary: "Announces a file that comes in parts",
    access: "project",
    body: {
      schema: newUpload,
      example: { filename: "input.jsonl", purpose: "batch", bytes: 10, mime_type: "text/jsonl" },
    },
    answers: { 200: json("The upload.", upload) },
    codes: [...databaseCodes, "rate_limit_exceeded"],
  },
  {
    method: "post",
    path: "/v1/uploads/{id}/parts",
    id: "addUploadPart",
    tag: "Files and batches",
    summary: "Takes in one part",
    access: "project",
    body: { type: "multipart/form-data", schema: z.object({ data: binary }) },
    answers: { 200: json("The part.", part) },
    codes: [...taken, "not_found", "invalid_state"],
  },
  {
    method: "post",
    path: "/v1/uploads/{id}/complete",
    id: "completeUpload",
    tag: "Files and batches",
    summary: "Makes a file of the parts, in the order of their ids",
    access: "project",
    body: { schema: completion, example: { part_ids: ["part_unknown"] } },
    answers: { 200: json("The upload, with its file.", upload) },
    codes: [...taken, "not_found", "invalid_state"],
  },
  {
    method: "post",
    path: "/v1/uploads/{id}/cancel",
    id: "cancelUpload",
    tag: "Files and batches",
    summary: "Ends an upload, and forgets its parts",
    access: "project",
    answers: { 200: json("The upload.", upload) },
    codes: [...found, "invalid_state"],
  },
];
