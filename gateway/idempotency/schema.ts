/** The table of requests that came with an `Idempotency-Key`. Migrations are generated from this. */
import { index, integer, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { bytea, gateway, moment } from "../kept/columns.ts";

/**
 * One row a key of a project. Without a status the request is under way, by `owner`, until its lease ends.
 * @public read by drizzle-kit
 */
export const idempotentRequests = gateway.table(
  "idempotent_requests",
  {
    projectId: text("project_id").notNull(),
    /** SHA-256: keys may hold what is nobody's business. */
    keyHash: text("key_hash").notNull(),
    /** SHA-256 of what was asked. */
    fingerprint: text("fingerprint").notNull(),
    owner: text("owner").notNull(),
    requestId: text("request_id").notNull(),
    leaseUntil: moment("lease_until").notNull(),
    expiresAt: moment("expires_at").notNull(),
    /** 0 where the answer was too large to keep. */
    status: integer("status"),
    headers: jsonb("headers"),
    body: bytea("body"),
  },
  (table) => [
    primaryKey({ columns: [table.projectId, table.keyHash] }),
    index("idempotent_requests_expires_at").on(table.expiresAt),
  ],
);
