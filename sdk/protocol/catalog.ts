/** What the registry knows, in the shapes that others read: models, adapters, routes, prices, evidence. */
import { z } from "zod";
import { contentLogSetting } from "./content-log.ts";
import { guardrails } from "./guardrails.ts";
import {
  adapterId,
  keyId,
  measurementId,
  priceId,
  projectId,
  routeId,
  runId,
  sha256,
  spendAlertId,
} from "./ids.ts";
import { adapterName, aliasName, baseName } from "./model-name.ts";
import { usdString } from "./money.ts";
import { meter } from "./usage.ts";

/** Years before 1000 are written by databases in ways that are read as others. */
const timestamp = z.iso
  .datetime({ offset: true })
  .refine((text) => Date.parse(text) >= 0, "expected a moment after 1970");

/**
 * One limit. Requests and tokens fill a bucket that holds `burst` and drains `limit` evenly within a window, so no
 * stretch as long as the window sees more than `limit + burst`; `concurrent` counts requests under way.
 */
export const limitRule = z
  .strictObject({
    kind: z.enum(["requests", "tokens", "concurrent"]),
    limit: z.int().positive().max(1e15),
    /** Up to thirty-one days. */
    windowSeconds: z.int().positive().max(2_678_400).default(60),
    /** What may come at once; the limit where it is absent. */
    burst: z.int().positive().max(1e15).optional(),
    /** A bucket of its own for each model that is asked first, for each end user, or for each pair of them. */
    each: z
      .array(z.enum(["model", "user"]))
      .max(2)
      .refine((values) => new Set(values).size === values.length, "names one of them twice")
      .default([]),
    /** Counts requests to these models alone; all where it is absent. */
    models: z.array(z.string().min(1).max(256)).min(1).max(100).optional(),
  })
  .refine(({ kind, burst }) => kind !== "concurrent" || burst === undefined, {
    message: "requests under way have no burst",
    path: ["burst"],
  });
export type LimitRule = z.infer<typeof limitRule>;

/**
 * Requests and tokens a minute, and requests at one time; absent means no limit. `rules` are limits of other
 * windows, or for each model or end user; all hold at once.
 */
export const rateLimits = z
  .strictObject({
    requestsPerMinute: z.int().positive().optional(),
    tokensPerMinute: z.int().positive().optional(),
    concurrentRequests: z.int().positive().optional(),
    rules: z.array(limitRule).max(20).optional(),
  })
  .refine(
    (limits) => {
      const all = rulesOf(limits);
      return new Set(all.map(countedBy)).size === all.length;
    },
    { message: "two limits count the same within the same window", path: ["rules"] },
  );
export type RateLimits = z.infer<typeof rateLimits>;

/** All limits as rules: the short forms are rules too. */
export function rulesOf({
  requestsPerMinute,
  tokensPerMinute,
  concurrentRequests,
  rules = [],
}: {
  requestsPerMinute?: number | undefined;
  tokensPerMinute?: number | undefined;
  concurrentRequests?: number | undefined;
  rules?: readonly LimitRule[] | undefined;
}): readonly LimitRule[] {
  const short = [
    { kind: "requests", limit: requestsPerMinute },
    { kind: "tokens", limit: tokensPerMinute },
    { kind: "concurrent", limit: concurrentRequests },
  ] as const;
  return [
    ...short.flatMap(({ kind, limit }) =>
      limit === undefined ? [] : [{ kind, limit, windowSeconds: 60, each: [] }],
    ),
    ...rules,
  ];
}

/** Names what a rule counts: its bucket keeps its level when its limit is changed. */
export function countedBy({ kind, windowSeconds, each, models }: LimitRule): string {
  const window = kind === "concurrent" ? "" : `/${windowSeconds}s`;
  const of = models ? `(${[...models].sort().join(",")})` : "";
  return `${kind}${window}${[...each]
    .sort()
    .map((name) => `/${name}`)
    .join("")}${of}`;
}

export const budgetPeriod = z.enum(["day", "week", "month", "quarter", "year", "total", "custom"]);
export type BudgetPeriod = z.infer<typeof budgetPeriod>;

/** Spending that a period of the calendar may reach. */
export const budget = z
  .strictObject({
    limitUsd: usdString,
    /** Weeks begin on Monday; `custom` is every so many days from a date. */
    period: budgetPeriod,
    /** Of a `custom` period: its length, and a day on which one begins. */
    everyDays: z.int().min(1).max(3_660).optional(),
    anchor: z.iso.date().optional(),
    /** Whose midnight begins a period, such as `Europe/Berlin`; UTC where it is absent. */
    timeZone: z.string().min(1).max(64).refine(isTimeZone, "expected an IANA time zone").optional(),
    /** `false` refuses nothing and only tells. */
    hard: z.boolean().optional(),
    /** Shares of the limit that are told once a period, such as 0.8. */
    alertAt: z
      .array(z.number().gt(0).max(10).multipleOf(0.001))
      .max(10)
      .refine((shares) => new Set(shares).size === shares.length, "names a share twice")
      .optional(),
    /** The same for each model, for each end user, or for each pair of them. */
    each: z
      .array(z.enum(["model", "user"]))
      .max(2)
      .refine((values) => new Set(values).size === values.length, "names one of them twice")
      .optional(),
    /** Counts what these models cost, and their adapters; all where it is absent. */
    models: z.array(z.string().min(1).max(256)).min(1).max(100).optional(),
  })
  .refine(
    ({ period, everyDays, anchor }) =>
      (period === "custom") === (everyDays !== undefined && anchor !== undefined) &&
      (everyDays === undefined) === (anchor === undefined),
    {
      message: "`everyDays` and `anchor` belong to the period `custom`, and both to it",
      path: ["period"],
    },
  );
export type Budget = z.infer<typeof budget>;

/** All hold at once. */
export const budgets = z
  .array(budget)
  .max(50)
  .refine(
    (all) => new Set(all.map(budgetName)).size === all.length,
    "two budgets bound the same spending of the same period",
  );

/** Names what a budget counts: the counter stays when the limit is changed. */
export function budgetName({
  period,
  everyDays,
  anchor,
  timeZone = "UTC",
  hard = true,
  each = [],
  models,
}: Budget): string {
  const length = period === "custom" ? `${everyDays}d@${anchor}` : period;
  const of = models ? `(${[...new Set(models)].sort().join(",")})` : "";
  const whose = [...each].sort().map((name) => `/${name}`);
  return `${hard ? "" : "soft/"}${length}@${timeZone}${whose.join("")}${of}`;
}

function isTimeZone(timeZone: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone });
    return true;
  } catch {
    return false;
  }
}

/** When answers of a project's requests are kept and given again, without a request's saying so. */
export const responseCacheSetting = z.strictObject({
  ttlSeconds: z
    .int()
    .min(1)
    .max(30 * 86_400),
  /** Also those of a temperature other than 0, which a model would not say again. */
  sampled: z.boolean().optional(),
  /** How streams are given again; `fast` where it is not said. */
  pace: z.enum(["fast", "recorded"]).optional(),
});
export type ResponseCacheSetting = z.infer<typeof responseCacheSetting>;

/** One address, or a range in CIDR's notation. */
export const addressRange = z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()], {
  error: "expected an address or a range such as 10.0.0.0/8 or 2001:db8::/32",
});

/** What a key may be used for; what is absent does not restrict it. */
export const keyScopes = z.strictObject({
  /** Models, adapters and routes by name; a base model's name stands for its adapters as well. */
  models: z.array(z.string().min(1).max(256)).min(1).max(200).optional(),
  /** Addresses of this server, such as `/v1/chat/completions`; with all that lies under them. */
  endpoints: z.array(z.string().startsWith("/").max(256)).min(1).max(50).optional(),
  /** Where requests may come from. */
  addresses: z.array(addressRange).min(1).max(100).optional(),
});
export type KeyScopes = z.infer<typeof keyScopes>;

/** Labels that reports group by, by name. They stand on every line of the ledger beside those that a request names. */
export const tags = z
  .record(
    z.string().regex(/^[\w.-]{1,64}$/, "expected a name of letters, digits, '_', '.' and '-'"),
    z.string().max(256),
  )
  .refine((all) => Object.keys(all).length <= 16, "expected at most 16 tags");
export type Tags = z.infer<typeof tags>;

/** What people may give at most to the keys that they make for themselves; what is absent is not bounded. */
export const ownKeys = z.strictObject({
  /** Keys of one person in one project at one time; 0 lets nobody make any. */
  keysMax: z.int().min(0).max(1000),
  /** How long such a key may last. */
  daysMax: z.int().min(1).max(3650).optional(),
  limits: rateLimits.optional(),
  budgets: budgets.optional(),
  scopes: keyScopes.optional(),
});
export type OwnKeys = z.infer<typeof ownKeys>;

/** Where neither the project nor the organisation says otherwise. */
export const ownKeysDefault: OwnKeys = { keysMax: 10, daysMax: 90 };

/** Told once a month when so much is spent in it, in UTC, to whoever gets the alerts of budgets. */
export const spendAlert = z.strictObject({
  id: spendAlertId,
  thresholdUsd: usdString,
  /** Whom the receiver of alerts should write to; nothing here sends mail. */
  recipients: z.array(z.string().min(1).max(320)).min(1).max(50),
  subjectPrefix: z.string().max(256).optional(),
});
export type SpendAlert = z.infer<typeof spendAlert>;
const spendAlerts = z.array(spendAlert).max(20);

export const project = z.strictObject({
  id: projectId,
  name: z.string().min(1).max(128),
  team: z.string().max(128).optional(),
  costCentre: z.string().max(128).optional(),
  tags: tags.optional(),
  limits: rateLimits,
  budget: budget.optional(),
  budgets: budgets.optional(),
  spendAlerts: spendAlerts.optional(),
  /** Absent: as the organisation says. */
  ownKeys: ownKeys.optional(),
  /** What happens to a request whose price is unknown. */
  unpriced: z.enum(["allow", "refuse"]),
  /** Absent looks at nothing. */
  guardrails: guardrails.optional(),
  responseCache: responseCacheSetting.optional(),
  /** Its consent to keep prompts and answers; absent keeps none. */
  contentLog: contentLogSetting.optional(),
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
  scopes: keyScopes.optional(),
  /** The person or service account whose key it is; absent for one that is the project's alone. */
  ownerId: z.string().optional(),
  /** How people know the owner: an e-mail address, or the account's name. */
  ownerName: z.string().optional(),
  /** Since when the key is refused because its owner may not use it; it may come back, where a revoked one never does. */
  suspendedAt: timestamp.optional(),
  /** Goes before the project's. */
  costCentre: z.string().max(128).optional(),
  tags: tags.optional(),
  /** What the key was before it was rotated, which goes on for a while. */
  previous: z.strictObject({ hash: sha256, until: timestamp }).optional(),
  limits: rateLimits,
  budget: budget.optional(),
  budgets: budgets.optional(),
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

const models = z.array(z.string()).max(8).optional();

/**
 * Whom to ask after a failure of that kind, in place of the models that are left; an empty list tells the client at
 * once. `insufficient_quota` is a budget of ours that refuses the route's own models.
 */
export const fallbackOn = z.strictObject({
  context_length_exceeded: models,
  content_filter: models,
  rate_limit_exceeded: models,
  insufficient_quota: models,
});
export type FallbackOn = z.infer<typeof fallbackOn>;

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
  fallbackOn: fallbackOn.optional(),
  tasks: z.array(taskPolicy).max(64),
});
export type Route = z.infer<typeof route>;

/** What is charged otherwise than a request that is answered at once. */
export const priceTier = z.enum(["batch", "cached_response"]);
export type PriceTier = z.infer<typeof priceTier>;

/** One effective-dated price of one meter. Rows are never changed; a later `recordedAt` corrects. */
export const price = z.strictObject({
  id: priceId,
  /** A model's id, or `base:adapter` where an adapter has a price of its own. */
  model: z.string(),
  meter,
  /** Absent: for everything that has no price of its tier. */
  tier: priceTier.optional(),
  /** Dollars for one of what the meter counts: mostly a token, for some an image, a millisecond or a character. At most 12 decimal places. */
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

/** What holds for all projects together. */
export const organization = z.strictObject({
  budgets,
  spendAlerts: spendAlerts.optional(),
  /** Of projects that say nothing of their own. */
  ownKeys: ownKeys.optional(),
});
export type Organization = z.infer<typeof organization>;

/** All policy that the gateway decides by, at one version. Held in memory and on disk. */
export const snapshot = z.strictObject({
  version: z.int().nonnegative(),
  generatedAt: timestamp,
  /** Absent in snapshots that an older registry gave. */
  organization: organization.optional(),
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
export const registryEvent = z.strictObject({
  id: z.int(),
  at: z.string(),
  actor: z.string(),
  /** Where the request came from; absent where no gateway could tell. */
  address: z.string().optional(),
  type: z.string(),
  subject: z.string(),
  projectId: z.string().nullable(),
  detail: z.record(z.string(), z.unknown()),
});
export type RegistryEvent = z.infer<typeof registryEvent>;
