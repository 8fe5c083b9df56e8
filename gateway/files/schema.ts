/** The tables of files and uploads, which the gateway alone touches. Migrations are generated from this. */
import { boolean, index, integer, primaryKey, text } from "drizzle-orm/pg-core";
import { bytea, gateway, moment, size } from "../kept/columns.ts";

/**
 * A file that is not whole is being written, and nobody sees it.
 * @public read by drizzle-kit
 */
export const files = gateway.table(
  "files",
  {
    id: text("id").primaryKey(),
    projectId: text("project_id").notNull(),
    purpose: text("purpose").notNull(),
    filename: text("filename").notNull(),
    bytes: size("bytes").notNull(),
    sha256: text("sha256"),
    isWhole: boolean("is_whole").notNull(),
    createdAt: moment("created_at").notNull(),
    expiresAt: moment("expires_at"),
  },
  (table) => [
    index("files_project").on(table.projectId, table.id),
    index("files_expires_at").on(table.expiresAt),
  ],
);

/**
 * The bytes of a file, or of an upload's part: the chunks of one owner in order.
 * @public read by drizzle-kit
 */
export const fileChunks = gateway.table(
  "file_chunks",
  {
    ownerId: text("owner_id").notNull(),
    position: integer("position").notNull(),
    bytes: bytea("bytes").notNull(),
  },
  (table) => [primaryKey({ columns: [table.ownerId, table.position] })],
);

/** @public read by drizzle-kit */
export const uploads = gateway.table(
  "uploads",
  {
    id: text("id").primaryKey(),
    projectId: text("project_id").notNull(),
    purpose: text("purpose").notNull(),
    filename: text("filename").notNull(),
    mimeType: text("mime_type").notNull(),
    /** As the client said they would be. */
    bytes: size("bytes").notNull(),
    /** `pending`, `completed` or `cancelled`. */
    status: text("status").notNull(),
    createdAt: moment("created_at").notNull(),
    expiresAt: moment("expires_at").notNull(),
    /** Of the file that it becomes. */
    fileExpiresAfter: integer("file_expires_after"),
    fileId: text("file_id"),
  },
  (table) => [index("uploads_project").on(table.projectId, table.id)],
);

/** @public read by drizzle-kit */
export const uploadParts = gateway.table(
  "upload_parts",
  {
    id: text("id").primaryKey(),
    uploadId: text("upload_id").notNull(),
    bytes: size("bytes").notNull(),
    isWhole: boolean("is_whole").notNull(),
    createdAt: moment("created_at").notNull(),
  },
  (table) => [index("upload_parts_upload").on(table.uploadId)],
);
