/** The tables of the schema `billing`, which the gateway alone touches. Migrations are generated from this. */
import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  date,
  doublePrecision,
  index,
  integer,
  jsonb,
  numeric,
  pgSchema,
  primaryKey,
  text,
  timestamp,
} from "drizzle-orm/pg-core";

const billing = pgSchema("billing");

/** Dollars to the pico: 26 digits before the point, 12 behind it. */
const money = (name: string) => numeric(name, { precision: 38, scale: 12 });
const tokens = (name: string) => bigint(name, { mode: "number" });
const moment = (name: string) => timestamp(name, { withTimezone: true, mode: "string" });

/** One row a settled request. Never updated. Absent tokens and costs are unknown, not zero. */
export const requests = billing.table(
  "requests",
  {
    requestId: text("request_id").primaryKey(),
    at: moment("at").notNull(),
    startedAt: moment("started_at").notNull(),
    projectId: text("project_id").notNull(),
    keyId: text("key_id").notNull(),
    /** Names, team and cost centre as they were then; a project that moves does not rewrite its past. */
    projectName: text("project_name").notNull(),
    keyName: text("key_name").notNull(),
    team: text("team"),
    costCentre: text("cost_centre"),
    requestedModel: text("requested_model").notNull(),
    route: text("route"),
    task: text("task"),
    tags: jsonb("tags").notNull().default(sql`'{}'::jsonb`),
    model: text("model"),
    adapter: text("adapter"),
    adapterVersion: integer("adapter_version"),
    adapterDigest: text("adapter_digest"),
    upstream: text("upstream"),
    input: tokens("input"),
    cacheRead: tokens("cache_read"),
    cacheWrite: tokens("cache_write"),
    output: tokens("output"),
    reasoning: tokens("reasoning"),
    usageEstimated: boolean("usage_estimated").notNull(),
    usageInconsistent: boolean("usage_inconsistent").notNull(),
    /** `priced`, `unpriced` or `unused`; see `record.ts`. */
    pricing: text("pricing").notNull(),
    cost: money("cost"),
    defaultModel: text("default_model"),
    baselineCost: money("baseline_cost"),
    outcome: text("outcome").notNull(),
    httpStatus: integer("http_status").notNull(),
    errorCode: text("error_code"),
    stream: boolean("stream").notNull(),
    ttftMs: doublePrecision("ttft_ms"),
    durationMs: doublePrecision("duration_ms").notNull(),
    decision: jsonb("decision"),
  },
  (table) => [
    index("requests_at").on(table.at),
    index("requests_project_at").on(table.projectId, table.at),
    // Ids sort by time, so this serves a project's newest requests.
    index("requests_project_id").on(table.projectId, table.requestId),
  ],
);

/**
 * Double entry, append only: debits positive, credits negative, a request's lines sum to zero. The
 * expense lines repeat what reports group by, so that a cost report reads this table alone.
 * @public read by drizzle-kit
 */
export const entries = billing.table(
  "entries",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    requestId: text("request_id")
      .notNull()
      .references(() => requests.requestId),
    at: moment("at").notNull(),
    projectId: text("project_id").notNull(),
    keyId: text("key_id").notNull(),
    /** `base` or `base:adapter`. */
    model: text("model").notNull(),
    /** `expense:<project>` or `accrual:<upstream>`. */
    account: text("account").notNull(),
    amount: money("amount").notNull(),
    /** On expense lines: what was counted, how much of it, and the price row that was used. */
    meter: text("meter"),
    quantity: tokens("quantity"),
    priceId: text("price_id"),
  },
  (table) => [
    index("entries_request").on(table.requestId),
    index("entries_at").on(table.at),
    index("entries_project_at").on(table.projectId, table.at),
  ],
);

/**
 * What each key spent on each UTC day, kept in the transaction that adds the rows: budgets start from it.
 * @public read by drizzle-kit
 */
export const dailySpend = billing.table(
  "daily_spend",
  {
    day: date("day", { mode: "string" }).notNull(),
    projectId: text("project_id").notNull(),
    keyId: text("key_id").notNull(),
    cost: money("cost").notNull(),
    requests: tokens("requests").notNull(),
    unpriced: tokens("unpriced").notNull(),
  },
  (table) => [primaryKey({ columns: [table.projectId, table.keyId, table.day] })],
);
