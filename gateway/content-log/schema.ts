/** The tables of contents that projects let be kept: sealed rows, and the keys that seal them. Migrations are generated from this. */
import { boolean, date, index, text } from "drizzle-orm/pg-core";
import { bytea, gateway, moment } from "../kept/columns.ts";

/**
 * Data keys: of each gateway one for a project and a day, itself sealed by a master key that is in no database. Without
 * it the rows that it seals are noise.
 * @public read by drizzle-kit
 */
export const contentKeys = gateway.table(
  "content_keys",
  {
    id: text("id").primaryKey(),
    projectId: text("project_id").notNull(),
    day: date("day", { mode: "string" }).notNull(),
    masterKeyId: text("master_key_id").notNull(),
    wrapped: bytea("wrapped").notNull(),
  },
  (table) => [
    index("content_keys_of_project").on(table.projectId),
    index("content_keys_by_master").on(table.masterKeyId),
    index("content_keys_by_day").on(table.day),
  ],
);

/**
 * What was said in one request: compressed, then sealed. Rows whose key is gone are not read, and are deleted.
 * @public read by drizzle-kit
 */
export const requestContents = gateway.table(
  "request_contents",
  {
    requestId: text("request_id").primaryKey(),
    projectId: text("project_id").notNull(),
    /** As in the ledger; what a person asks to be forgotten is found by it. */
    endUser: text("end_user"),
    dataKeyId: text("data_key_id").notNull(),
    at: moment("at").notNull(),
    expiresAt: moment("expires_at").notNull(),
    /** Something was too long to be kept whole. */
    truncated: boolean("truncated").notNull(),
    sealed: bytea("sealed").notNull(),
  },
  (table) => [
    index("request_contents_expires_at").on(table.expiresAt),
    index("request_contents_of_user").on(table.projectId, table.endUser),
    index("request_contents_of_key").on(table.dataKeyId),
  ],
);
