/** The registry's tables, in their own schema; no other service reads them. `drizzle-kit` writes migrations from here. */
import { sql } from "drizzle-orm";
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
import type {
  Budget,
  FallbackOn,
  KeyScopes,
  Model,
  OwnKeys,
  PriceTier,
  RateLimits,
  ResponseCacheSetting,
  SpendAlert,
  Tags,
  TaskPolicy,
} from "../sdk/protocol/catalog.ts";
import type { ContentLogSetting } from "../sdk/protocol/content-log.ts";
import type { Guardrails } from "../sdk/protocol/guardrails.ts";
import type {
  AdapterId,
  InviteId,
  KeyId,
  MeasurementId,
  PriceId,
  ProjectId,
  RouteId,
  RunId,
  ServiceAccountId,
  Sha256,
  UserId,
} from "../sdk/protocol/ids.ts";
import type { Role } from "../sdk/protocol/roles.ts";
import type { Meter } from "../sdk/protocol/usage.ts";

/** @public drizzle-kit reads it. */
export const registry = pgSchema("registry");

/** One row, of what holds for all projects together. */
export const organizations = registry.table("organizations", {
  id: text("id").$type<"organization">().primaryKey(),
  budgets: jsonb("budgets").$type<Budget[]>().notNull(),
  spendAlerts: jsonb("spend_alerts").$type<SpendAlert[]>(),
  ownKeys: jsonb("own_keys").$type<OwnKeys>(),
});

export const projects = registry.table("projects", {
  id: text("id").$type<ProjectId>().primaryKey(),
  name: text("name").notNull().unique(),
  team: text("team"),
  costCentre: text("cost_centre"),
  tags: jsonb("tags").$type<Tags>(),
  limits: jsonb("limits").$type<RateLimits>().notNull(),
  budget: jsonb("budget").$type<Budget>(),
  budgets: jsonb("budgets").$type<Budget[]>(),
  spendAlerts: jsonb("spend_alerts").$type<SpendAlert[]>(),
  ownKeys: jsonb("own_keys").$type<OwnKeys>(),
  unpriced: text("unpriced").$type<"allow" | "refuse">().notNull(),
  guardrails: jsonb("guardrails").$type<Guardrails>(),
  responseCache: jsonb("response_cache").$type<ResponseCacheSetting>(),
  contentLog: jsonb("content_log").$type<ContentLogSetting>(),
  archived: boolean("archived").notNull().default(false),
  archivedAt: at("archived_at"),
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
    budgets: jsonb("budgets").$type<Budget[]>(),
    createdAt: at("created_at").notNull(),
    scopes: jsonb("scopes").$type<KeyScopes>(),
    /** Of the text that was rotated away, until then. */
    previousHash: text("previous_hash").$type<Sha256>().unique(),
    previousUntil: at("previous_until"),
    /** Of all texts that it ever had: none comes back, not even by settings that still have it. */
    retiredHashes: jsonb("retired_hashes").$type<Sha256[]>().notNull().default([]),
    expiresAt: at("expires_at"),
    revokedAt: at("revoked_at"),
    /** The person or service account whose key it is, and with whom it ends; none for one that is the project's alone. */
    ownerId: text("owner_id").$type<UserId | ServiceAccountId>(),
    /** The key's beginning and end, for people who look for it; none of a key that the operator chose. */
    redacted: text("redacted"),
    /** Refused while its owner may not use it. */
    suspendedAt: at("suspended_at"),
    /** To the minute, as gateways tell; no change of the registry, and in no snapshot. */
    lastUsedAt: at("last_used_at"),
    costCentre: text("cost_centre"),
    tags: jsonb("tags").$type<Tags>(),
  },
  (table) => [
    index("api_keys_by_project").on(table.projectId, table.id),
    index("api_keys_by_owner").on(table.ownerId),
  ],
);

/** Programs of a project. A row goes when its account is deleted; its keys stay, revoked. */
export const serviceAccounts = registry.table(
  "service_accounts",
  {
    id: text("id").$type<ServiceAccountId>().primaryKey(),
    projectId: text("project_id")
      .$type<ProjectId>()
      .notNull()
      .references(() => projects.id),
    name: text("name").notNull(),
    role: text("role").$type<"member" | "owner">().notNull().default("member"),
    createdAt: at("created_at").notNull(),
  },
  (table) => [index("service_accounts_by_project").on(table.projectId, table.id)],
);

/** People, each known by what their OpenID provider calls them. */
export const users = registry.table(
  "users",
  {
    id: text("id").$type<UserId>().primaryKey(),
    issuer: text("issuer").notNull(),
    /** `sub`, which no other person of that issuer ever has; an e-mail address may be given to another. */
    subject: text("subject").notNull(),
    email: text("email"),
    /** The provider vouched for the address at the last login. */
    emailVerified: boolean("email_verified").notNull().default(false),
    name: text("name"),
    role: text("role").$type<Role>().notNull(),
    /** The role was given here and is kept, whatever the provider tells at the next login. */
    roleKept: boolean("role_kept").notNull().default(false),
    /** Came by an invitation, and so needs no group at the provider. */
    invited: boolean("invited").notNull().default(false),
    /** What the invitation gives who is in no group. */
    invitedRole: text("invited_role").$type<Role>(),
    /** Since when they may not log in, and their keys are refused. */
    disabledAt: at("disabled_at"),
    createdAt: at("created_at").notNull(),
    lastLoginAt: at("last_login_at").notNull(),
  },
  (table) => [uniqueIndex("users_by_subject").on(table.issuer, table.subject)],
);

/** Who may use a project with keys of their own. */
export const projectMembers = registry.table(
  "project_members",
  {
    projectId: text("project_id")
      .$type<ProjectId>()
      .notNull()
      .references(() => projects.id),
    userId: text("user_id")
      .$type<UserId>()
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    role: text("role").$type<"member" | "owner">().notNull(),
    addedAt: at("added_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.projectId, table.userId] }),
    index("project_members_by_user").on(table.userId),
  ],
);

/** Who is expected: whoever logs in with that address, if the provider vouches for it. */
export const invites = registry.table(
  "invites",
  {
    id: text("id").$type<InviteId>().primaryKey(),
    /** In lower case. */
    email: text("email").notNull(),
    role: text("role").$type<Role>().notNull(),
    projects: jsonb("projects").$type<{ id: ProjectId; role: "member" | "owner" }[]>().notNull(),
    createdAt: at("created_at").notNull(),
    expiresAt: at("expires_at").notNull(),
    acceptedAt: at("accepted_at"),
  },
  (table) => [index("invites_by_email").on(table.email)],
);

/** Who is logged in. A session's token is nowhere: only its SHA-256. */
export const sessions = registry.table(
  "sessions",
  {
    hash: text("hash").$type<Sha256>().primaryKey(),
    /** Of the token that was rotated away, good for a moment longer. */
    previousHash: text("previous_hash").$type<Sha256>().unique(),
    previousUntil: at("previous_until"),
    userId: text("user_id")
      .$type<UserId>()
      .notNull()
      .references(() => users.id, { onDelete: "cascade" }),
    createdAt: at("created_at").notNull(),
    rotatedAt: at("rotated_at").notNull(),
    expiresAt: at("expires_at").notNull(),
  },
  (table) => [index("sessions_by_user").on(table.userId)],
);

/** Codes of programs' logins that have opened their session, kept for longer than a code is good. */
export const usedLoginCodes = registry.table("used_login_codes", {
  code: text("code").primaryKey(),
  usedAt: at("used_at").notNull(),
});

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

/**
 * Every change, once and in the order of commits; the newest id is the snapshot's version. Beside the changes what
 * somebody did with contents, `content.*`, which no snapshot shows.
 */
export const events = registry.table(
  "events",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    at: at("at").notNull(),
    actor: text("actor").notNull(),
    /** Where the request came from, as far as a gateway could tell. */
    address: text("address"),
    type: text("type").notNull(),
    subject: text("subject").notNull(),
    projectId: text("project_id").$type<ProjectId>(),
    detail: jsonb("detail").$type<Record<string, unknown>>().notNull(),
  },
  (table) => [
    index("events_by_subject").on(table.subject, table.id),
    index("events_by_project").on(table.projectId, table.id),
    index("events_by_actor").on(table.actor, table.at),
    index("events_of_policy").on(table.id).where(sql`type not like 'content.%'`),
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
    fallbackOn: jsonb("fallback_on").$type<FallbackOn>(),
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
    tier: text("tier").$type<PriceTier>(),
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
