/** The table of kept responses, which the gateway alone touches. Migrations are generated from this. */
import { index, integer, json, text } from "drizzle-orm/pg-core";
import { gateway, moment } from "../kept/columns.ts";

/**
 * What `store` keeps of a response: the object as its client got it, and the items that were its input. As `json`,
 * because `jsonb` refuses texts with NUL characters.
 * @public read by drizzle-kit
 */
export const responses = gateway.table(
  "responses",
  {
    id: text("id").primaryKey(),
    projectId: text("project_id").notNull(),
    createdAt: moment("created_at").notNull(),
    expiresAt: moment("expires_at").notNull(),
    /** The response whose conversation this one continues; it may be gone. */
    previousId: text("previous_id"),
    response: json("response").notNull(),
    input: json("input").notNull(),
    /** JSON of input and output; absent in rows of older gateways. */
    historyBytes: integer("history_bytes"),
  },
  (table) => [index("responses_expires_at").on(table.expiresAt)],
);
