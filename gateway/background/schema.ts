/** The tables of responses that run in the background. Migrations are generated from this. */
import { boolean, foreignKey, index, integer, primaryKey, text } from "drizzle-orm/pg-core";
import { gateway, moment } from "../kept/columns.ts";
import { responses } from "../responses/schema.ts";

/**
 * Beside each background response's row in `responses`.
 * @public read by drizzle-kit
 */
export const backgroundRuns = gateway.table(
  "background_runs",
  {
    responseId: text("response_id").primaryKey(),
    projectId: text("project_id").notNull(),
    /** The process that runs it, which has to say again and again that it lives. */
    owner: text("owner").notNull(),
    leaseUntil: moment("lease_until").notNull(),
    running: boolean("running").notNull(),
    /** Whether its events are kept. */
    streamed: boolean("streamed").notNull(),
  },
  (table) => [
    index("background_runs_running").on(table.running, table.projectId),
    foreignKey({
      name: "background_runs_response",
      columns: [table.responseId],
      foreignColumns: [responses.id],
    }).onDelete("cascade"),
  ],
);

/**
 * Events of one response, several in a row: server-sent events as they went out, from one number on without a gap.
 * @public read by drizzle-kit
 */
export const responseEvents = gateway.table(
  "response_events",
  {
    responseId: text("response_id").notNull(),
    first: integer("first").notNull(),
    last: integer("last").notNull(),
    frames: text("frames").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.responseId, table.first] }),
    foreignKey({
      name: "response_events_response",
      columns: [table.responseId],
      foreignColumns: [responses.id],
    }).onDelete("cascade"),
  ],
);
