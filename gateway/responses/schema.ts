/** The table of kept responses, which the gateway alone touches. Migrations are generated from this. */
import { index, jsonb, pgSchema, text, timestamp } from "drizzle-orm/pg-core";

const gateway = pgSchema("gateway");
const moment = (name: string) => timestamp(name, { withTimezone: true, mode: "string" });

/**
 * What `store` keeps of a response: the object as its client got it, and the items that were its input.
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
    response: jsonb("response").notNull(),
    input: jsonb("input").notNull(),
  },
  (table) => [index("responses_expires_at").on(table.expiresAt)],
);
