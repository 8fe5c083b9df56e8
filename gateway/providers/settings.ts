/** What an operator writes about an upstream. */
import { z } from "zod";
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

const shared = {
  /** Models name their upstream by it. */
  name: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/),
  /** The credential itself, for programs that build settings; files name a variable instead. */
  apiKey: z.string().min(1).optional(),
  /** Name of the environment variable that holds the credential. */
  apiKeyEnv: z
    .string()
    .regex(/^[A-Z][A-Z0-9_]*$/)
    .optional(),
  ...upstreamTimeouts,
};

/** `openai` is any upstream that speaks OpenAI's chat completions; without a URL it is OpenAI itself. */
const openAiUpstream = z.strictObject({
  type: z.literal("openai"),
  ...shared,
  baseUrl: z.url({ protocol: /^https?$/ }).optional(),
  /** What it speaks: `chat` where a URL is given, `both` where it is OpenAI itself, when absent. */
  api: z.enum(["chat", "responses", "both"]).optional(),
});

/** An adapter-server's URL, such as `http://gpu-1:8000/v1`; its key is that server's operator key. */
const adapterServerUpstream = z.strictObject({
  type: z.literal("adapter-server"),
  ...shared,
  baseUrl: z.url({ protocol: /^https?$/ }),
});

/** Others that nearly speak OpenAI's chat completions; a row of `openai-like/quirks.ts` each. */
const openAiLikeUpstream = z.strictObject({
  type: z.enum(openAiLike),
  ...shared,
  baseUrl: z.url({ protocol: /^https?$/ }).optional(),
});

/** Google's Gemini API, with a key of AI Studio. */
const geminiUpstream = z.strictObject({
  type: z.literal("gemini"),
  ...shared,
  baseUrl: z.url({ protocol: /^https?$/ }).optional(),
});

/** Gemini on Google's cloud. The key is an access token; without one, a service account's file gives tokens. */
const vertexUpstream = z.strictObject({
  type: z.literal("vertex"),
  ...shared,
  project: z.string().regex(/^[a-z0-9][a-z0-9.:-]{0,99}$/),
  location: z
    .string()
    .regex(/^[a-z0-9-]{1,40}$/)
    .default("global"),
  /** Absent: the variable `GOOGLE_APPLICATION_CREDENTIALS` names it. */
  credentialsFile: z.string().min(1).optional(),
  /** In place of Google's own for the project and location. */
  baseUrl: z.url({ protocol: /^https?$/ }).optional(),
});

/** AWS Bedrock. The key is one of Bedrock's own; without one, AWS's usual variables hold keys that sign. */
const bedrockUpstream = z.strictObject({
  type: z.literal("bedrock"),
  ...shared,
  region: z.string().regex(/^[a-z0-9-]{1,40}$/),
  /** In place of the region's own. */
  baseUrl: z.url({ protocol: /^https?$/ }).optional(),
});

/** Anthropic, or whoever speaks its messages; the URL ends before `/messages`. */
const anthropicUpstream = z.strictObject({
  type: z.literal("anthropic"),
  ...shared,
  baseUrl: z.url({ protocol: /^https?$/ }).optional(),
});

export const upstreamSettings = z.discriminatedUnion("type", [
  openAiUpstream,
  anthropicUpstream,
  adapterServerUpstream,
  geminiUpstream,
  openAiLikeUpstream,
  vertexUpstream,
  bedrockUpstream,
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
