/** The tables of conversations, which the gateway alone touches. Migrations are generated from this. */
import { foreignKey, index, integer, json, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { gateway, moment, size } from "../kept/columns.ts";

/** @public read by drizzle-kit */
export const conversations = gateway.table(
  "conversations",
  {
    id: text("id").primaryKey(),
    projectId: text("project_id").notNull(),
    createdAt: moment("created_at").notNull(),
    /** Moved on whenever something is added. */
    expiresAt: moment("expires_at").notNull(),
    metadata: jsonb("metadata").notNull(),
    /** Where the next item goes; places are not given twice. */
    nextPosition: size("next_position").notNull(),
    items: integer("items").notNull(),
    /** JSON of all items. */
    bytes: size("bytes").notNull(),
  },
  (table) => [index("conversations_expires_at").on(table.expiresAt)],
);

/** @public read by drizzle-kit */
export const conversationItems = gateway.table(
  "conversation_items",
  {
    conversationId: text("conversation_id").notNull(),
    position: size("position").notNull(),
    id: text("id").notNull(),
    /** As `json`, because `jsonb` refuses texts with NUL characters. */
    item: json("item").notNull(),
    bytes: integer("bytes").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.conversationId, table.position] }),
    index("conversation_items_id").on(table.conversationId, table.id),
    foreignKey({
      name: "conversation_items_conversation",
      columns: [table.conversationId],
      foreignColumns: [conversations.id],
    }).onDelete("cascade"),
  ],
);
