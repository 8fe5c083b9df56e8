/** The gateway's environment and every limit it works within, each with its name. */
import { z } from "zod";
import { meteringLimits } from "./metering/config.ts";
import { timeoutMs, upstreamSettings } from "./providers/settings.ts";

/** Bounds of queues, bodies, retries, streams and caches. Times are milliseconds, sizes bytes. */
export const gatewayLimits = z.strictObject({
  /** Requests to models at one time, streams included; further ones are refused. */
  requestsInFlightMax: size(4096),
  /** A request's body; images travel in it as base64. */
  requestBytesMax: size(32 << 20),
  /** Values in a request's JSON, list items included. */
  requestValuesMax: size(500_000),
  /** Arrays and objects of a request in one another. */
  nestingMax: size(1000),
  /** A whole answer that is not streamed, and the text kept of one for counting. */
  answerBytesMax: size(64 << 20),
  /** One server-sent event. */
  frameBytesMax: size(4 << 20),
  /** What is read of an upstream's error. */
  errorBytesMax: size(64 << 10),
  /** Relayed text that is kept until the provider tells its usage; counting stops there. */
  relayedTextCharsMax: size(4 << 20),
  /** Keys whose hash is remembered, so that a request costs no SHA-256. */
  identityCacheMax: size(10_000),
  /** Models that one request may be sent to, one after another. */
  attemptsMax: size(4),
  /** Assumed for a request and a model that both name no most. */
  outputTokensDefault: size(4096),
  /** Assumed for one image part; providers count 85 to about 1,600. */
  imageTokens: size(2048),
  /** The largest body that is counted again, exactly, when its byte bound did not fit a limit. */
  recountBytesMax: size(64 << 10),
  /** The largest body whose tokens are counted, to plan it or for a client that only wants to know; larger ones are guessed. */
  countBytesMax: size(1 << 20),
  connectionsPerUpstreamMax: size(1024),
  connectTimeoutMs: time(5_000),
  /** For an access token, where an upstream's credential is a service account. */
  tokenTimeoutMs: time(10_000),
  /** To the first event of a stream, or the head of an answer. */
  firstByteTimeoutMs: time(120_000),
  /** Between two chunks of an answer. */
  idleTimeoutMs: time(60_000),
  /** A whole answer, all attempts of the request together. */
  totalTimeoutMs: time(600_000),
  /** Silence after which a comment keeps proxies from closing a stream. */
  keepAliveMs: time(15_000),
  /** Failures in a row that open an upstream's breaker, and how long it stays open at first and at most. */
  breakerFailures: size(5),
  breakerOpenMs: time(2_000),
  breakerOpenMsMax: time(60_000),
  /** How long the registry may hold a snapshot request open. */
  snapshotWaitMs: time(25_000),
  snapshotRetryMs: time(250),
  snapshotRetryMsMax: time(10_000),
  /** How long a response that its client wants stored can be asked for and continued; 0 keeps none. */
  responseRetentionDays: z.int().min(0).max(3650).default(30),
  /** JSON of the conversation that a response continues. */
  historyBytesMax: size(16 << 20),
  /** How long the database may take to keep a response, or to find one. */
  responseStoreTimeoutMs: time(2_000),
  /** How long requests under way may take after the stop signal. */
  drainTimeoutMs: time(30_000),
});
export type GatewayLimits = z.infer<typeof gatewayLimits>;

export const defaultLimits: GatewayLimits = gatewayLimits.parse({});

/** What `main.ts` reads when the gateway runs alone. */
const environment = z.object({
  HOST: z.string().min(1).default("127.0.0.1"),
  PORT: z.coerce.number().int().min(0).max(65535).default(8787),
  SWITCHYARD_DATA_DIR: z.string().min(1).default(".switchyard"),
  SWITCHYARD_OPERATOR_KEY: z.string().min(16),
  SWITCHYARD_REGISTRY_URL: z.url(),
  SWITCHYARD_EVALS_URL: z.url().optional(),
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  /** Shares limits and budgets with other gateways; absent keeps them in this process. */
  REDIS_URL: z.url({ protocol: /^rediss?$/ }).optional(),
  /** A JSON list of upstreams, each as `providers/settings.ts` has it. */
  SWITCHYARD_UPSTREAMS: json(z.array(upstreamSettings), "[]"),
  /** JSON objects with the limits that differ from `gatewayLimits` above and from `meteringLimits`. */
  SWITCHYARD_LIMITS: json(gatewayLimits, "{}"),
  SWITCHYARD_METERING: json(meteringLimits, "{}"),
  SWITCHYARD_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
});
export type GatewayEnvironment = z.infer<typeof environment>;

/** @throws ZodError naming each variable that is missing or wrong */
export function readEnvironment(env: NodeJS.ProcessEnv): GatewayEnvironment {
  return environment.parse(env);
}

/** JSON in a variable, checked as if it stood in a settings file. */
function json<S extends z.ZodType>(schema: S, byDefault: string) {
  return z
    .string()
    .default(byDefault)
    .transform((text, context) => {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        context.addIssue({ code: "custom", message: "expected JSON" });
        return z.NEVER;
      }
    })
    .pipe(schema);
}

function size(byDefault: number) {
  return z.int().positive().default(byDefault);
}

function time(byDefault: number) {
  return timeoutMs.default(byDefault);
}
