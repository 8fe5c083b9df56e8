/** The tables of batches, which the gateway alone touches. Migrations are generated from this. */
import { boolean, index, integer, primaryKey, text } from "drizzle-orm/pg-core";
import { gateway, moment, size } from "../kept/columns.ts";

const count = (name: string) => integer(name).notNull().default(0);

/**
 * A batch, as OpenAI tells of it, and who works on it. JSON is kept as text: `jsonb` has no place for some of
 * the characters that clients send.
 * @public read by drizzle-kit
 */
export const batches = gateway.table(
  "batches",
  {
    id: text("id").primaryKey(),
    projectId: text("project_id").notNull(),
    /** Whose limits and budget its requests fall under; the key itself is nowhere. */
    keyId: text("key_id").notNull(),
    endpoint: text("endpoint").notNull(),
    completionWindow: text("completion_window").notNull(),
    inputFileId: text("input_file_id").notNull(),
    outputFileId: text("output_file_id"),
    errorFileId: text("error_file_id"),
    outputExpiresAfter: integer("output_expires_after"),
    status: text("status").notNull(),
    errors: text("errors"),
    metadata: text("metadata"),
    /** The headers of the request that created it which its lines are sent with. */
    tags: text("tags"),
    task: text("task"),
    model: text("model"),
    total: count("total"),
    completed: count("completed"),
    failed: count("failed"),
    /** Of the results so far. */
    resultBytes: size("result_bytes").notNull().default(0),
    createdAt: moment("created_at").notNull(),
    expiresAt: moment("expires_at").notNull(),
    inProgressAt: moment("in_progress_at"),
    finalizingAt: moment("finalizing_at"),
    completedAt: moment("completed_at"),
    failedAt: moment("failed_at"),
    expiredAt: moment("expired_at"),
    cancellingAt: moment("cancelling_at"),
    cancelledAt: moment("cancelled_at"),
    /** The gateway that works on it, until when unless it says that it still does; by the database's clock. */
    leaseOwner: text("lease_owner"),
    leaseUntil: moment("lease_until"),
    /** Since when it waits for somebody to work on it: when it was created, or given up for others' turn. */
    waitingSince: moment("waiting_since").notNull().defaultNow(),
  },
  (table) => [
    index("batches_project").on(table.projectId, table.id),
    index("batches_status").on(table.status),
    index("batches_input_file").on(table.inputFileId),
  ],
);

/**
 * What became of a line, until it stands in the batch's output or error file.
 * @public read by drizzle-kit
 */
export const batchResults = gateway.table(
  "batch_results",
  {
    batchId: text("batch_id").notNull(),
    line: integer("line").notNull(),
    succeeded: boolean("succeeded").notNull(),
    /** The line of the output or error file. */
    content: text("content").notNull(),
  },
  (table) => [primaryKey({ columns: [table.batchId, table.line] })],
);
