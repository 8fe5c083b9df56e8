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
  uniqueIndex,
} from "drizzle-orm/pg-core";
import type { Budget } from "../../sdk/protocol/catalog.ts";

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
    /** The person or service account whose key it was; absent for a key of the project alone. */
    ownerId: text("owner_id"),
    team: text("team"),
    costCentre: text("cost_centre"),
    /** How its client asked, as the gateway's formats are named. */
    format: text("format"),
    requestedModel: text("requested_model").notNull(),
    route: text("route"),
    task: text("task"),
    /** As the application named it. */
    endUser: text("end_user"),
    tags: jsonb("tags").notNull().default(sql`'{}'::jsonb`),
    /** Of the batch that the request was a line of. */
    batchId: text("batch_id"),
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
    inputAudio: tokens("input_audio"),
    inputImage: tokens("input_image"),
    cacheReadAudio: tokens("cache_read_audio"),
    cacheReadImage: tokens("cache_read_image"),
    outputAudio: tokens("output_audio"),
    outputImage: tokens("output_image"),
    images: tokens("images"),
    audioMs: tokens("audio_ms"),
    characters: tokens("characters"),
    usageEstimated: boolean("usage_estimated").notNull(),
    usageInconsistent: boolean("usage_inconsistent").notNull(),
    /** `priced`, `unpriced` or `unused`; see `record.ts`. */
    pricing: text("pricing").notNull(),
    cost: money("cost"),
    defaultModel: text("default_model"),
    baselineCost: money("baseline_cost"),
    /** `hit`: no model was asked, for the answer had been kept. */
    responseCache: text("response_cache"),
    /** What that answer used when it was made, by meter; the meters above are what this request used, which is nothing. */
    savedUsage: jsonb("saved_usage"),
    /** What it would have cost to make. */
    uncachedCost: money("uncached_cost"),
    outcome: text("outcome").notNull(),
    httpStatus: integer("http_status").notNull(),
    errorCode: text("error_code"),
    stream: boolean("stream").notNull(),
    ttftMs: doublePrecision("ttft_ms"),
    durationMs: doublePrecision("duration_ms").notNull(),
    /** Milliseconds by part; see `observing/timings.ts`. */
    timings: jsonb("timings"),
    decision: jsonb("decision"),
    /** The transaction that put it here: in that order, and only once all before it are over, rows are told live. */
    ingestedBy: bigint("ingested_by", { mode: "number" }).default(
      sql`pg_current_xact_id()::text::bigint`,
    ),
  },
  (table) => [
    index("requests_at").on(table.at),
    index("requests_project_at").on(table.projectId, table.at),
    // Ids sort by time, so this serves a project's newest requests.
    index("requests_project_id").on(table.projectId, table.requestId),
    // For what one end user or one key has spent.
    index("requests_user_at").on(table.projectId, table.endUser, table.at),
    index("requests_key_at").on(table.keyId, table.at),
    // What the log is asked for, each newest first.
    index("requests_key_id").on(table.keyId, table.requestId),
    index("requests_model").on(table.model, table.requestId),
    index("requests_owner").on(table.ownerId, table.requestId).where(sql`owner_id is not null`),
    index("requests_task").on(table.task, table.requestId).where(sql`task is not null`),
    index("requests_end_user").on(table.endUser, table.requestId).where(sql`end_user is not null`),
    index("requests_failed").on(table.outcome, table.requestId).where(sql`outcome <> 'ok'`),
    index("requests_ingested").on(table.ingestedBy, table.requestId),
  ],
);

/**
 * Double entry, append only: debits positive, credits negative, a request's lines sum to zero. The
 * lines repeat what reports group by, so that a cost report reads this table alone.
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
    ownerId: text("owner_id"),
    /** `base` or `base:adapter`. */
    model: text("model").notNull(),
    /** `expense:<project>`, `overhead:unanswered`, `accrual:<upstream>` or `income:response_cache`. */
    account: text("account").notNull(),
    amount: money("amount").notNull(),
    /** On lines of what something cost: what was counted, how much of it, and the price row that was used. */
    meter: text("meter"),
    quantity: tokens("quantity"),
    priceId: text("price_id"),
  },
  (table) => [
    index("entries_request").on(table.requestId),
    index("entries_at").on(table.at),
    index("entries_project_at").on(table.projectId, table.at),
    index("entries_unanswered").on(table.at).where(sql`account = 'overhead:unanswered'`),
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

/**
 * Once for each counter, limit and share; a counter's name holds the beginning of its period.
 * @public read by drizzle-kit
 */
export const budgetAlerts = billing.table(
  "budget_alerts",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    at: moment("at").notNull(),
    counter: text("counter").notNull(),
    scope: text("scope").notNull(),
    scopeId: text("scope_id").notNull(),
    /** Absent for the organisation's. */
    projectId: text("project_id"),
    endUser: text("end_user"),
    model: text("model"),
    budget: jsonb("budget").$type<Budget>().notNull(),
    share: doublePrecision("share").notNull(),
    limit: money("limit").notNull(),
    spent: money("spent").notNull(),
    resetAt: moment("reset_at"),
    /** Where it is a spend alert: its id, and whom to write to. */
    spendAlert: jsonb("spend_alert"),
    /** When it may be posted next; absent once it was taken or given up, or where nobody is to be posted to. */
    postAt: moment("post_at"),
    postAttempts: integer("post_attempts").notNull().default(0),
    postedAt: moment("posted_at"),
  },
  (table) => [
    uniqueIndex("budget_alerts_once").on(table.counter, table.limit, table.share),
    index("budget_alerts_project").on(table.projectId, table.id),
    index("budget_alerts_at").on(table.at),
    index("budget_alerts_to_post").on(table.id).where(sql`post_at is not null`),
  ],
);
