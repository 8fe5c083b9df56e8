/** What an operator writes about an upstream. */
import { z } from "zod";
import { balances } from "../attempts/balance.ts";
import { stickiness } from "../attempts/upstream.ts";
import type { GatewayLimits } from "../config.ts";
import { openAiLike } from "./openai-like/quirks.ts";

/** A longer timer of Node's fires at once. */
export const timeoutMs = z
  .number()
  .positive()
  .max(2 ** 31 - 1);

/** Bounds of one upstream, in milliseconds, in place of the gateway's own; see `gatewayLimits`. */
const upstreamTimeouts = {
  connectTimeoutMs: timeoutMs.optional(),
  firstByteTimeoutMs: timeoutMs.optional(),
  idleTimeoutMs: timeoutMs.optional(),
  totalTimeoutMs: timeoutMs.optional(),
};

const variable = z.string().regex(/^[A-Z][A-Z0-9_]*$/);
/** Several credentials of one address: where one is refused or has met its limit, another is used. */
const keys = z.array(variable).min(1).max(32).optional();

const shared = {
  /** Models name their upstream by it. */
  name: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/),
  /** Whether it runs on hardware of one's own, for guardrails that let nothing leave; adapter-servers do when absent. */
  own: z.boolean().optional(),
  /** The credential itself, for programs that build settings; files name a variable instead. */
  apiKey: z.string().min(1).optional(),
  /** Name of the environment variable that holds the credential. */
  apiKeyEnv: variable.optional(),
  /** Names of several such variables, in place of one. */
  keys,
  /** How calls are shared out among several deployments; `peak-ewma` when absent. */
  balance: z.enum(balances).optional(),
  /** What keeps requests on one deployment, for the provider's prompt cache; `named` when absent. */
  stickyBy: z.enum(stickiness).optional(),
  /** A second call to another deployment where the first is slow to begin; absent makes none. */
  hedge: z
    .strictObject({
      /** Absent: as long as 19 of 20 first bytes took lately. */
      afterMs: timeoutMs.optional(),
      /** Of the requests, and of their input tokens, that may be asked twice. */
      shareMax: z.number().min(0).max(1).default(0.05),
    })
    .optional(),
  ...upstreamTimeouts,
};

/** Several places that serve the same models; what one does not set is the upstream's. */
function deployments<S extends z.ZodRawShape>(places: S) {
  const deployment = z.strictObject({
    name: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/),
    apiKeyEnv: variable.optional(),
    keys,
    /** Its share of the calls, compared with the others'. */
    weight: z.number().positive().max(1000).optional(),
    /** Those of a higher tier are called only while none of a lower one can be. */
    tier: z.int().min(0).max(9).optional(),
    ...places,
  });
  return z.array(deployment).min(1).max(32).optional();
}
const url = z.url({ protocol: /^https?$/ });
const byUrl = deployments({ baseUrl: url.optional() });

/** `openai` is any upstream that speaks OpenAI's chat completions; without a URL it is OpenAI itself. */
const openAiUpstream = z.strictObject({
  type: z.literal("openai"),
  ...shared,
  baseUrl: url.optional(),
  deployments: byUrl,
  /** What it speaks: `chat` where a URL is given, `both` where it is OpenAI itself, when absent. */
  api: z.enum(["chat", "responses", "both"]).optional(),
});

/** An adapter-server's URL, such as `http://gpu-1:8000/v1`; its key is that server's operator key. */
const adapterServerUpstream = z.strictObject({
  type: z.literal("adapter-server"),
  ...shared,
  baseUrl: url,
  deployments: byUrl,
});

/** Others that nearly speak OpenAI's chat completions; a row of `openai-like/quirks.ts` each. */
const openAiLikeUpstream = z.strictObject({
  type: z.enum(openAiLike),
  ...shared,
  baseUrl: url.optional(),
  deployments: byUrl,
});

/** Google's Gemini API, with a key of AI Studio. */
const geminiUpstream = z.strictObject({
  type: z.literal("gemini"),
  ...shared,
  baseUrl: url.optional(),
  deployments: byUrl,
});

const place = z.string().regex(/^[a-z0-9-]{1,40}$/);

/** Gemini on Google's cloud. The key is an access token; without one, a service account's file gives tokens. */
const vertexUpstream = z.strictObject({
  type: z.literal("vertex"),
  ...shared,
  project: z.string().regex(/^[a-z0-9][a-z0-9.:-]{0,99}$/),
  location: place.default("global"),
  /** Absent: the variable `GOOGLE_APPLICATION_CREDENTIALS` names it. */
  credentialsFile: z.string().min(1).optional(),
  /** In place of Google's own for the project and location. */
  baseUrl: url.optional(),
  deployments: deployments({ baseUrl: url.optional(), location: place.optional() }),
});

/** AWS Bedrock. The key is one of Bedrock's own; without one, AWS's usual variables hold keys that sign. */
const bedrockUpstream = z.strictObject({
  type: z.literal("bedrock"),
  ...shared,
  region: place,
  /** In place of the region's own. */
  baseUrl: url.optional(),
  deployments: deployments({ baseUrl: url.optional(), region: place.optional() }),
});

/** Cohere, or whoever speaks the second version of its API; the URL ends before `/chat`. */
const cohereUpstream = z.strictObject({
  type: z.literal("cohere"),
  ...shared,
  baseUrl: url.optional(),
  deployments: byUrl,
});

/** Anthropic, or whoever speaks its messages; the URL ends before `/messages`. */
const anthropicUpstream = z.strictObject({
  type: z.literal("anthropic"),
  ...shared,
  baseUrl: url.optional(),
  deployments: byUrl,
});

export const upstreamSettings = z.discriminatedUnion("type", [
  openAiUpstream,
  anthropicUpstream,
  adapterServerUpstream,
  geminiUpstream,
  openAiLikeUpstream,
  vertexUpstream,
  bedrockUpstream,
  cohereUpstream,
]);
export type UpstreamSettings = z.infer<typeof upstreamSettings>;

export type Timeouts = {
  firstByteMs: number;
  idleMs: number;
  totalMs: number;
};

export function timeoutsOf(settings: Partial<UpstreamSettings>, limits: GatewayLimits): Timeouts {
  return {
    firstByteMs: settings.firstByteTimeoutMs ?? limits.firstByteTimeoutMs,
    idleMs: settings.idleTimeoutMs ?? limits.idleTimeoutMs,
    totalMs: settings.totalTimeoutMs ?? limits.totalTimeoutMs,
  };
}
