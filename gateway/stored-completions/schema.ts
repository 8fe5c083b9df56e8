/** The table of stored chat completions. Migrations are generated from this. */
import { index, json, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { gateway, moment } from "../kept/columns.ts";

/**
 * Ids are the upstreams' own, which are theirs to choose: one project's are not another's. Texts are `json`, because
 * `jsonb` refuses those with NUL characters.
 * @public read by drizzle-kit
 */
export const chatCompletions = gateway.table(
  "chat_completions",
  {
    projectId: text("project_id").notNull(),
    id: text("id").notNull(),
    createdAt: moment("created_at").notNull(),
    expiresAt: moment("expires_at").notNull(),
    /** As the client named it, and as the answer does. */
    requestedModel: text("requested_model").notNull(),
    answeredModel: text("answered_model").notNull(),
    metadata: jsonb("metadata").notNull(),
    completion: json("completion").notNull(),
    messages: json("messages").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.projectId, table.id] }),
    index("chat_completions_listed").on(table.projectId, table.createdAt, table.id),
    index("chat_completions_expires_at").on(table.expiresAt),
  ],
);
