/** Bodies of the admin API under `/api`, as the CLI, the client and the dashboard send them. */
import { z } from "zod";
import {
  adapterVersion,
  apiKey,
  budget,
  budgets,
  keyScopes,
  measurement,
  model,
  organization,
  ownKeys,
  price,
  rateLimits,
  responseCacheSetting,
  route,
  tags,
} from "./catalog.ts";
import { contentLogSetting } from "./content-log.ts";
import { guardrails } from "./guardrails.ts";
import { keyId, projectId, sha256 } from "./ids.ts";
import { adapterName, aliasName, baseName } from "./model-name.ts";
import { role } from "./roles.ts";

export const createProject = z.strictObject({
  name: z.string().min(1).max(128),
  team: z.string().max(128).optional(),
  costCentre: z.string().max(128).optional(),
  tags: tags.optional(),
  limits: rateLimits.default({}),
  budget: budget.optional(),
  budgets: budgets.optional(),
  ownKeys: ownKeys.optional(),
  unpriced: z.enum(["allow", "refuse"]).default("allow"),
  guardrails: guardrails.optional(),
  responseCache: responseCacheSetting.optional(),
  contentLog: contentLogSetting.optional(),
});
export type CreateProject = z.input<typeof createProject>;

/** Absent leaves a field; `null` removes it, as an empty list does all of `budgets` and an empty object all `tags`. */
export const updateProject = z.strictObject({
  name: z.string().min(1).max(128).optional(),
  team: z.string().max(128).optional(),
  costCentre: z.string().max(128).optional(),
  tags: tags.optional(),
  limits: rateLimits.optional(),
  budget: budget.nullable().optional(),
  budgets: budgets.optional(),
  ownKeys: ownKeys.nullable().optional(),
  unpriced: z.enum(["allow", "refuse"]).optional(),
  guardrails: guardrails.nullable().optional(),
  responseCache: responseCacheSetting.nullable().optional(),
  contentLog: contentLogSetting.nullable().optional(),
});
export type UpdateProject = z.input<typeof updateProject>;

export const createKey = z.strictObject({
  name: z.string().min(1).max(128),
  role: z.enum(["admin", "project"]).default("project"),
  /** Required for a project key. */
  projectId: projectId.optional(),
  /** At most a hundred years. */
  expiresInSeconds: z.int().positive().max(3_155_760_000).optional(),
  scopes: keyScopes.optional(),
  limits: rateLimits.default({}),
  budget: budget.optional(),
  budgets: budgets.optional(),
  /** Where its requests are booked, in place of the project's. */
  costCentre: z.string().max(128).optional(),
  tags: tags.optional(),
});
export type CreateKey = z.input<typeof createKey>;

/** `POST /api/me/keys`: a key that a person makes for themselves, no more than the project's `ownKeys` let it be. */
export const createOwnKey = createKey
  .omit({ role: true, projectId: true, costCentre: true, tags: true, budget: true })
  .extend({ projectId });
export type CreateOwnKey = z.input<typeof createOwnKey>;

/** `PUT /api/organization`; alerts of spending have addresses of their own. */
export const declareOrganization = organization.omit({ spendAlerts: true }).extend({
  /** Absent keeps what is set; null takes it away. Of people only admins and owners may change it. */
  ownKeys: ownKeys.nullable().optional(),
});
export type DeclareOrganization = z.infer<typeof declareOrganization>;

/** `POST /api/keys/used`, of a gateway: when keys were used, which is written down once a minute at most. */
export const keysUsed = z.strictObject({
  keys: z.array(z.strictObject({ id: keyId, at: z.iso.datetime() })).max(1000),
});
export type KeysUsed = z.infer<typeof keysUsed>;

/** `POST /api/keys/:id/rotate`: how long the key's old text goes on beside its new one. */
export const rotateKey = z.strictObject({
  overlapSeconds: z
    .int()
    .min(0)
    .max(30 * 86_400)
    .default(86_400),
});
export type RotateKey = z.input<typeof rotateKey>;

/** A key as admins see it: without its hashes, from which a weak key could be guessed. */
export const keyInfo = apiKey.omit({ hash: true, previous: true }).extend({
  createdAt: z.string(),
  previousUntil: z.string().optional(),
  /** Beginning and end of the text, to tell keys apart; absent for one that an operator made up. */
  redacted: z.string().optional(),
  /** To the minute. */
  lastUsedAt: z.string().optional(),
});
export type KeyInfo = z.infer<typeof keyInfo>;

/** `POST /api/keys`: the only time that the key itself is shown. */
export const createdKey = keyInfo.extend({ key: z.string() });
export type CreatedKey = z.infer<typeof createdKey>;

/** `GET /api/adapter-versions/:digest`: a version, and the base that it was checked against. */
export const adapterVersionOfBase = adapterVersion.extend({ base: baseName });
export type AdapterVersionOfBase = z.infer<typeof adapterVersionOfBase>;

/** `PUT /api/models/:id`: declares a model; the same body again changes nothing. */
export const declareModel = model.omit({ id: true, createdAt: true });
export type DeclareModel = z.input<typeof declareModel>;

/** `PUT /api/routes/:name`. */
export const declareRoute = route.omit({ id: true, name: true });
export type DeclareRoute = z.input<typeof declareRoute>;

/** `POST /api/prices`: one or more rows; `validFrom` defaults to now. */
export const addPrices = z.strictObject({
  prices: z
    .array(
      price
        .omit({ id: true, recordedAt: true, validFrom: true })
        .extend({ validFrom: price.shape.validFrom.optional() }),
    )
    .min(1)
    .max(1000),
});
export type AddPrices = z.input<typeof addPrices>;

/** The JSON part (`manifest`) of the multipart push; the files are parts named as in PEFT's folder. */
export const pushAdapter = z.strictObject({
  base: baseName,
  name: adapterName,
  /** An admin key must say for which project; a project's key is for its own. */
  projectId: projectId.optional(),
  shared: z.boolean().default(false),
  /** Moved to the new version in the same transaction, unless it already points elsewhere. */
  alias: aliasName.optional(),
  lineage: z.record(z.string().max(64), z.string().max(1024)).default({}),
  /** Accepts a `base_model_name_or_path` that is not one of the base's known names. */
  acceptBaseName: z.boolean().default(false),
});
export type PushAdapter = z.input<typeof pushAdapter>;

/** `PUT …/aliases/:alias`: compare-and-swap; `expect` is the version it points at now, null for none. */
export const moveAlias = z.strictObject({
  version: z.int().positive(),
  expect: z.int().positive().nullable(),
  reason: z.string().max(1024).default(""),
  /** Moves `champion` although no eval measured the version. */
  force: z.boolean().default(false),
});
export type MoveAlias = z.input<typeof moveAlias>;

/** `POST …/aliases/:alias/rollback`: to the version before; `expect` is the one it points at now. */
export const rollBackAlias = z.strictObject({
  expect: z.int().positive().optional(),
  reason: z.string().max(1024).default(""),
});

export const addMeasurements = z.strictObject({
  measurements: z
    .array(measurement.omit({ id: true }))
    .min(1)
    .max(256),
});
export type AddMeasurements = z.input<typeof addMeasurements>;

/** `GET /api/whoami`: whose key this is. */
export const whoami = z.strictObject({
  /** Of a person who is logged in it is theirs. */
  keyId: z.string(),
  role: z.enum(["admin", "project", "operator", "user"]),
  projectId: projectId.optional(),
  user: z
    .strictObject({
      role,
      email: z.string().optional(),
      name: z.string().optional(),
      /** That they are a member of. */
      projects: z.array(
        z.strictObject({ id: projectId, name: z.string(), role: z.enum(["member", "owner"]) }),
      ),
    })
    .optional(),
});
export type Whoami = z.infer<typeof whoami>;

/** `POST /api/sessions`, of a gateway that saw a person log in. */
export const openSession = z.strictObject({
  issuer: z.string().min(1).max(1024),
  subject: z.string().min(1).max(255),
  email: z.string().max(320).optional(),
  /** The provider vouches for the address, so that it may stand for an invitation. */
  emailVerified: z.boolean().default(false),
  name: z.string().max(256).optional(),
  /** By the person's groups; absent for who is in none and comes in by an invitation or not at all. */
  role: role.optional(),
  hours: z.number().positive().max(720),
  /** Of a program's login: a code opens one session. */
  loginCode: z.string().min(16).max(64).optional(),
});
export type OpenSession = z.input<typeof openSession>;

/** `POST /api/sessions/rotate` and `/end`. */
export const sessionToken = z.strictObject({ token: z.string().min(1).max(256) });

export const sessionOpened = z.strictObject({ token: z.string(), expiresAt: z.string() });
export type SessionOpened = z.infer<typeof sessionOpened>;

/** How an eval's answer is judged against the row's reference. */
export const scorer = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("exact") }),
  z.strictObject({ type: z.literal("json") }),
  z.strictObject({ type: z.literal("contains") }),
  z.strictObject({ type: z.literal("regex"), pattern: z.string().min(1).max(1000) }),
]);
export type Scorer = z.infer<typeof scorer>;

/** `POST /api/evals/runs`. The run's requests are made, and billed, with the caller's own key. */
export const createRun = z.strictObject({
  task: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/),
  dataset: sha256,
  /** Models as a client writes them; every one answers every row. */
  candidates: z.array(z.string().min(1).max(512)).min(1).max(16),
  scorer,
  /** The first rows only; absent means all. */
  limit: z.int().positive().optional(),
  concurrency: z.int().min(1).max(64).default(8),
  maxTokens: z.int().positive().max(100_000).default(256),
});
export type CreateRun = z.input<typeof createRun>;

/** A run as `GET /api/evals/runs/:id` tells it. */
export const candidateResult = z.strictObject({
  candidate: z.string(),
  /** The model that answered, with the version that an alias stood for. */
  model: z.string().optional(),
  adapterDigest: sha256.optional(),
  n: z.int(),
  correct: z.int(),
  errored: z.int(),
  score: z.number().optional(),
  lower: z.number().optional(),
  upper: z.number().optional(),
  /** Against the run's first candidate, on the rows that both were judged on. */
  versusFirst: z
    .strictObject({
      n: z.int(),
      /** Rows that only this one, and that only the first one, had right. */
      gained: z.int(),
      lost: z.int(),
      /** Difference of the shares, with its 95 % interval. */
      difference: z.number(),
      lower: z.number(),
      upper: z.number(),
    })
    .optional(),
  totalCostUsd: z.string().optional(),
  meanCostUsd: z.string().optional(),
  unpriced: z.int(),
  meanInputTokens: z.number().optional(),
  meanOutputTokens: z.number().optional(),
  latencyP50Ms: z.number().optional(),
  latencyP95Ms: z.number().optional(),
  error: z.string().optional(),
});
export type CandidateResult = z.infer<typeof candidateResult>;

export const evalRun = z.strictObject({
  id: z.string(),
  projectId: z.string(),
  task: z.string(),
  dataset: z.string(),
  scorer,
  status: z.enum(["running", "done", "failed"]),
  error: z.string().optional(),
  rows: z.int(),
  /** Rows answered, over all candidates; `rows × candidates` when done. */
  answered: z.int(),
  candidates: z.array(candidateResult),
  createdAt: z.string(),
  finishedAt: z.string().optional(),
});
export type EvalRun = z.infer<typeof evalRun>;
