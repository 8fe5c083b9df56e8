/** What the registry knows, in the shapes that others read: models, adapters, routes, prices, evidence. */
import { z } from "zod";
import {
  adapterId,
  keyId,
  measurementId,
  priceId,
  projectId,
  routeId,
  runId,
  sha256,
} from "./ids.ts";
import { adapterName, aliasName, baseName } from "./model-name.ts";
import { usdString } from "./money.ts";
import { meter } from "./usage.ts";

const timestamp = z.iso.datetime({ offset: true });

/**
 * Requests and tokens a minute, and requests at one time; absent means no limit. The first two are buckets that hold
 * the limit and drain evenly within a minute, so a full burst may come before a minute at the limit's rate.
 */
export const rateLimits = z.strictObject({
  requestsPerMinute: z.int().positive().optional(),
  tokensPerMinute: z.int().positive().optional(),
  concurrentRequests: z.int().positive().optional(),
});
export type RateLimits = z.infer<typeof rateLimits>;

/** Spending that a period may reach, the period counted in UTC. */
export const budget = z.strictObject({
  limitUsd: usdString,
  period: z.enum(["day", "month", "total"]),
});
export type Budget = z.infer<typeof budget>;

export const project = z.strictObject({
  id: projectId,
  name: z.string().min(1).max(128),
  team: z.string().max(128).optional(),
  costCentre: z.string().max(128).optional(),
  limits: rateLimits,
  budget: budget.optional(),
  /** What happens to a request whose price is unknown. */
  unpriced: z.enum(["allow", "refuse"]),
  archived: z.boolean(),
});
export type Project = z.infer<typeof project>;

/** A key as the gateway knows it: by hash. Admin keys belong to no project and run no inference. */
export const apiKey = z.strictObject({
  id: keyId,
  /** SHA-256 of the whole key. */
  hash: sha256,
  name: z.string().max(128),
  role: z.enum(["admin", "project"]),
  projectId: projectId.optional(),
  expiresAt: timestamp.optional(),
  revokedAt: timestamp.optional(),
  limits: rateLimits,
  budget: budget.optional(),
});
export type ApiKey = z.infer<typeof apiKey>;

/** Sizes of a base model that an adapter has to fit: in and out features of each module that LoRA may change. */
export const baseShape = z.strictObject({
  family: z.string(),
  layers: z.int().positive(),
  hiddenSize: z.int().positive(),
  vocabSize: z.int().positive(),
  /** By the module's last name, such as `q_proj`. */
  modules: z.record(
    z.string(),
    z.strictObject({ in: z.int().positive(), out: z.int().positive() }),
  ),
  /** Names under which people train on this base, compared with `base_model_name_or_path`. */
  trainedAs: z.array(z.string()),
});
export type BaseShape = z.infer<typeof baseShape>;

export const model = z.strictObject({
  id: baseName,
  /** Name of an upstream in the gateway's settings; `embedded` is the adapter-server of this process. */
  upstream: z.string().min(1).max(64),
  /** What the upstream calls it. */
  upstreamModel: z.string().min(1).max(256),
  contextLength: z.int().positive().optional(),
  maxOutputTokens: z.int().positive().optional(),
  /** For counting tokens before the provider tells; absent means bytes are counted. */
  tokenizer: z.enum(["o200k_base", "cl100k_base"]).optional(),
  ownedBy: z.string().max(64),
  /** Present when the upstream serves adapters over it. */
  base: z.strictObject({ digest: sha256, shape: baseShape }).optional(),
  createdAt: timestamp,
});
export type Model = z.infer<typeof model>;

export const adapterVersion = z.strictObject({
  version: z.int().positive(),
  /** Identity of the version: over both files' digests, see `adapter-digest.ts`. */
  digest: sha256,
  configSha256: sha256,
  weightsSha256: sha256,
  sizeBytes: z.int().positive(),
  /** The largest rank of any module, which is what a slot must hold. */
  rank: z.int().positive(),
  targetModules: z.array(z.string()),
  baseDigest: sha256,
  lineage: z.record(z.string(), z.string()),
  createdBy: z.string(),
  createdAt: timestamp,
});
export type AdapterVersion = z.infer<typeof adapterVersion>;

export const adapter = z.strictObject({
  id: adapterId,
  base: baseName,
  name: adapterName,
  projectId,
  /** Every project may use it, none but its own may change it. */
  shared: z.boolean(),
  versions: z.array(adapterVersion),
  aliases: z.record(aliasName, z.int().positive()),
  createdAt: timestamp,
});
export type Adapter = z.infer<typeof adapter>;

/** How a request is known to be of a task when its sender does not say: all given tests must hold. */
export const taskRule = z.strictObject({
  /** The last user message begins with this text. */
  startsWith: z.string().min(1).max(512).optional(),
  /** The last user message contains this text, case ignored. */
  contains: z.string().min(1).max(512).optional(),
  /** The system or developer message contains this text, case ignored. */
  systemContains: z.string().min(1).max(512).optional(),
});
export type TaskRule = z.infer<typeof taskRule>;

export const taskPolicy = z.strictObject({
  task: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/),
  rules: z.array(taskRule).max(32),
  /** Models that may take the task, `base:adapter@alias` included. */
  candidates: z.array(z.string()).min(1).max(32),
  /** Least share of right answers, as the lower bound of the measured 95 % interval. */
  qualityFloor: z.number().min(0).max(1),
});
export type TaskPolicy = z.infer<typeof taskPolicy>;

/** A named policy that clients use as a model; the one called `auto` is used for `model: "auto"`. */
export const route = z.strictObject({
  id: routeId,
  name: baseName,
  /** Absent: for every project. A project's own route of the same name wins. */
  projectId: projectId.optional(),
  /** Answers what no task matches and what no measured candidate is good enough for. */
  defaultModel: z.string(),
  /** Tried in order when the chosen model fails before its first byte. */
  fallbacks: z.array(z.string()).max(8),
  tasks: z.array(taskPolicy).max(64),
});
export type Route = z.infer<typeof route>;

/** One effective-dated price of one meter. Rows are never changed; a later `recordedAt` corrects. */
export const price = z.strictObject({
  id: priceId,
  /** A model's id, or `base:adapter` where an adapter has a price of its own. */
  model: z.string(),
  meter,
  /** Dollars for one token; at most 12 decimal places. */
  usdPerToken: usdString,
  validFrom: timestamp,
  recordedAt: timestamp,
  source: z.string().max(512),
});
export type Price = z.infer<typeof price>;

/** Evidence from a finished eval run: how good, how dear and how quick one candidate was at one task. */
export const measurement = z.strictObject({
  id: measurementId,
  runId,
  projectId,
  task: z.string(),
  datasetDigest: sha256,
  scorer: z.string(),
  /** The candidate's model id, and the digest of the adapter that answered. */
  model: z.string(),
  adapterDigest: sha256.optional(),
  n: z.int().positive(),
  score: z.number(),
  lower: z.number(),
  upper: z.number(),
  meanCostUsd: usdString.optional(),
  meanInputTokens: z.number().nonnegative(),
  meanOutputTokens: z.number().nonnegative(),
  latencyP50Ms: z.number().nonnegative(),
  latencyP95Ms: z.number().nonnegative(),
  measuredAt: timestamp,
});
export type Measurement = z.infer<typeof measurement>;

/** All policy that the gateway decides by, at one version. Held in memory and on disk. */
export const snapshot = z.strictObject({
  version: z.int().nonnegative(),
  generatedAt: timestamp,
  projects: z.array(project),
  keys: z.array(apiKey),
  models: z.array(model),
  adapters: z.array(adapter),
  routes: z.array(route),
  prices: z.array(price),
  measurements: z.array(measurement),
});
export type Snapshot = z.infer<typeof snapshot>;

/** One change, who made it and when; the registry's history and the snapshot's version. */
export type RegistryEvent = {
  id: number;
  at: string;
  actor: string;
  type: string;
  subject: string;
  projectId: string | null;
  detail: Record<string, unknown>;
};
