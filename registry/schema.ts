/** The registry's tables, in their own schema; no other service reads them. `drizzle-kit` writes migrations from here. */
import {
  bigint,
  boolean,
  doublePrecision,
  foreignKey,
  index,
  integer,
  jsonb,
  numeric,
  pgSchema,
  primaryKey,
  text,
  timestamp,
  unique,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import type { Budget, Model, RateLimits, TaskPolicy } from "../sdk/protocol/catalog.ts";
import type {
  AdapterId,
  KeyId,
  MeasurementId,
  PriceId,
  ProjectId,
  RouteId,
  RunId,
  Sha256,
} from "../sdk/protocol/ids.ts";
import type { Meter } from "../sdk/protocol/usage.ts";

/** @public drizzle-kit reads it. */
export const registry = pgSchema("registry");

export const projects = registry.table("projects", {
  id: text("id").$type<ProjectId>().primaryKey(),
  name: text("name").notNull().unique(),
  team: text("team"),
  costCentre: text("cost_centre"),
  limits: jsonb("limits").$type<RateLimits>().notNull(),
  budget: jsonb("budget").$type<Budget>(),
  unpriced: text("unpriced").$type<"allow" | "refuse">().notNull(),
  archived: boolean("archived").notNull().default(false),
  createdAt: at("created_at").notNull(),
});

/** A key itself is nowhere: only its SHA-256, by which it is looked up. */
export const apiKeys = registry.table(
  "api_keys",
  {
    id: text("id").$type<KeyId>().primaryKey(),
    hash: text("hash").$type<Sha256>().notNull().unique(),
    name: text("name").notNull(),
    role: text("role").$type<"admin" | "project">().notNull(),
    projectId: text("project_id")
      .$type<ProjectId>()
      .references(() => projects.id),
    limits: jsonb("limits").$type<RateLimits>().notNull(),
    budget: jsonb("budget").$type<Budget>(),
    createdAt: at("created_at").notNull(),
    expiresAt: at("expires_at"),
    revokedAt: at("revoked_at"),
  },
  (table) => [index("api_keys_by_project").on(table.projectId, table.id)],
);

export const models = registry.table("models", {
  id: text("id").primaryKey(),
  upstream: text("upstream").notNull(),
  upstreamModel: text("upstream_model").notNull(),
  contextLength: integer("context_length"),
  maxOutputTokens: integer("max_output_tokens"),
  tokenizer: text("tokenizer").$type<Model["tokenizer"]>(),
  ownedBy: text("owned_by").notNull(),
  base: jsonb("base").$type<NonNullable<Model["base"]>>(),
  createdAt: at("created_at").notNull(),
});

export const adapters = registry.table(
  "adapters",
  {
    id: text("id").$type<AdapterId>().primaryKey(),
    projectId: text("project_id")
      .$type<ProjectId>()
      .notNull()
      .references(() => projects.id),
    base: text("base")
      .notNull()
      .references(() => models.id),
    name: text("name").notNull(),
    shared: boolean("shared").notNull(),
    createdAt: at("created_at").notNull(),
  },
  (table) => [uniqueIndex("adapters_by_name").on(table.projectId, table.base, table.name)],
);

/** Rows are never changed: a version is its content. */
export const adapterVersions = registry.table(
  "adapter_versions",
  {
    adapterId: text("adapter_id")
      .$type<AdapterId>()
      .notNull()
      .references(() => adapters.id),
    version: integer("version").notNull(),
    digest: text("digest").$type<Sha256>().notNull(),
    configSha256: text("config_sha256").$type<Sha256>().notNull(),
    weightsSha256: text("weights_sha256").$type<Sha256>().notNull(),
    sizeBytes: bigint("size_bytes", { mode: "number" }).notNull(),
    rank: integer("rank").notNull(),
    targetModules: jsonb("target_modules").$type<string[]>().notNull(),
    baseDigest: text("base_digest").$type<Sha256>().notNull(),
    lineage: jsonb("lineage").$type<Record<string, string>>().notNull(),
    createdBy: text("created_by").notNull(),
    createdAt: at("created_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.adapterId, table.version] }),
    uniqueIndex("adapter_versions_by_content").on(table.adapterId, table.digest),
    index("adapter_versions_by_digest").on(table.digest),
  ],
);

export const aliases = registry.table(
  "aliases",
  {
    adapterId: text("adapter_id").$type<AdapterId>().notNull(),
    alias: text("alias").notNull(),
    version: integer("version").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.adapterId, table.alias] }),
    foreignKey({
      name: "aliases_version",
      columns: [table.adapterId, table.version],
      foreignColumns: [adapterVersions.adapterId, adapterVersions.version],
    }),
  ],
);

/** Every change, once and in the order of commits; the newest id is the snapshot's version. */
export const events = registry.table(
  "events",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    at: at("at").notNull(),
    actor: text("actor").notNull(),
    type: text("type").notNull(),
    subject: text("subject").notNull(),
    projectId: text("project_id").$type<ProjectId>(),
    detail: jsonb("detail").$type<Record<string, unknown>>().notNull(),
  },
  (table) => [
    index("events_by_subject").on(table.subject, table.id),
    index("events_by_project").on(table.projectId, table.id),
  ],
);

export const routes = registry.table(
  "routes",
  {
    id: text("id").$type<RouteId>().primaryKey(),
    name: text("name").notNull(),
    projectId: text("project_id")
      .$type<ProjectId>()
      .references(() => projects.id),
    defaultModel: text("default_model").notNull(),
    fallbacks: jsonb("fallbacks").$type<string[]>().notNull(),
    tasks: jsonb("tasks").$type<TaskPolicy[]>().notNull(),
  },
  (table) => [unique("routes_by_name").on(table.name, table.projectId).nullsNotDistinct()],
);

/** Rows are never changed: a later `recorded_at` corrects. */
export const prices = registry.table(
  "prices",
  {
    id: text("id").$type<PriceId>().primaryKey(),
    model: text("model").notNull(),
    meter: text("meter").$type<Meter>().notNull(),
    usdPerToken: numeric("usd_per_token", { precision: 38, scale: 12 }).notNull(),
    validFrom: at("valid_from").notNull(),
    recordedAt: at("recorded_at").notNull(),
    source: text("source").notNull(),
  },
  (table) => [
    index("prices_by_meter").on(table.model, table.meter, table.validFrom, table.recordedAt),
  ],
);

export const measurements = registry.table(
  "measurements",
  {
    id: text("id").$type<MeasurementId>().primaryKey(),
    runId: text("run_id").$type<RunId>().notNull(),
    projectId: text("project_id")
      .$type<ProjectId>()
      .notNull()
      .references(() => projects.id),
    task: text("task").notNull(),
    datasetDigest: text("dataset_digest").$type<Sha256>().notNull(),
    scorer: text("scorer").notNull(),
    model: text("model").notNull(),
    adapterDigest: text("adapter_digest").$type<Sha256>(),
    n: integer("n").notNull(),
    score: doublePrecision("score").notNull(),
    lower: doublePrecision("lower").notNull(),
    upper: doublePrecision("upper").notNull(),
    meanCostUsd: numeric("mean_cost_usd", { precision: 38, scale: 12 }),
    meanInputTokens: doublePrecision("mean_input_tokens").notNull(),
    meanOutputTokens: doublePrecision("mean_output_tokens").notNull(),
    latencyP50Ms: doublePrecision("latency_p50_ms").notNull(),
    latencyP95Ms: doublePrecision("latency_p95_ms").notNull(),
    measuredAt: at("measured_at").notNull(),
  },
  (table) => [
    // A run that reports twice, after a lost answer, is one piece of evidence.
    unique("measurements_by_run")
      .on(table.runId, table.model, table.adapterDigest)
      .nullsNotDistinct(),
    index("measurements_by_adapter").on(table.adapterDigest),
    index("measurements_by_task").on(table.projectId, table.task, table.measuredAt),
  ],
);

function at(name: string) {
  return timestamp(name, { withTimezone: true, mode: "date", precision: 3 });
}
