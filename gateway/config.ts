/** The gateway's environment and every limit it works within, each with its name. */
import { availableParallelism } from "node:os";
import { z } from "zod";
import { addressRange } from "../sdk/protocol/catalog.ts";
import { meteringLimits } from "./metering/config.ts";
import { signInSettings } from "./people/settings.ts";
import { timeoutMs, upstreamSettings } from "./providers/settings.ts";

/** Bounds of queues, bodies, retries, streams and caches. Times are milliseconds, sizes bytes. */
export const gatewayLimits = z.strictObject({
  /** Requests to models at one time, streams included; further ones are refused. */
  requestsInFlightMax: size(4096),
  /** A request's body; images travel in it as base64. */
  requestBytesMax: size(32 << 20),
  /** Values in a request's JSON, list items included. */
  requestValuesMax: size(500_000),
  /** Connections to this server at one time; further ones are closed at once. */
  connectionsMax: size(10_000),
  /** For a request's headers to arrive, and for all of it: whoever sends a byte now and then holds a connection no longer. */
  headersTimeoutMs: time(20_000),
  requestTimeoutMs: time(300_000),
  /** Arrays and objects of a request in one another. */
  nestingMax: size(1000),
  /** A whole answer that is not streamed, and what is kept of one that is translated as it comes. */
  answerBytesMax: size(64 << 20),
  /** One server-sent event. */
  frameBytesMax: size(4 << 20),
  /** One server-sent event that holds an image or a piece of audio. */
  mediaFrameBytesMax: size(48 << 20),
  /** A request's form, files and all; its files are kept on disk until it is over. */
  formBytesMax: size(64 << 20),
  /** Files of all forms that are under way. */
  formsBytesMax: size(2 ** 31),
  /** The texts of a form together, which are kept in memory. */
  formTextBytesMax: size(8 << 20),
  /** Texts and files of a form together. */
  formPartsMax: size(128),
  /** Tokens of one image that is made, assumed where nobody tells; providers count 272 to about 6,300. */
  outputImageTokens: size(8192),
  /** Bytes of a second of audio, assumed of a file that does not tell how long it is. */
  audioBytesPerSecond: size(4000),
  /** The same at the least, for the most that a file may last; telephones' codecs need no fewer. */
  audioBytesPerSecondMin: size(800),
  /** One event of a realtime session, audio and all. */
  realtimeEventBytesMax: size(16 << 20),
  /** Input that is reserved for a realtime session's next response. */
  realtimeInputTokens: size(16_384),
  /** After so long what a silent session holds is reserved anew; less than `reservationTtlMs`. */
  realtimeHoldMs: time(5 * 60_000),
  /** How long a rate limit may keep a session waiting before it is closed. */
  realtimeWaitMs: time(10_000),
  /** Sessions of one project at one time, and of all at one gateway. */
  realtimeSessionsPerProjectMax: size(100),
  realtimeSessionsMax: size(1000),
  /** Responses of a session that are under way or asked for. */
  realtimeResponsesMax: size(16),
  /** A whole session. */
  realtimeSessionMs: time(60 * 60_000),
  /** From the first byte of a message on a WebSocket to its last. */
  socketMessageTimeoutMs: time(120_000),
  /** A connection on which responses are asked for, one after another, as a WebSocket. */
  responseSocketMs: time(60 * 60_000),
  /** Such connections of one project at one time, and of all at one gateway. */
  responseSocketsPerProjectMax: size(32),
  responseSocketsMax: size(1024),
  /** One message on such a connection: as many as there are connections may be in memory at one time, half arrived. */
  responseMessageBytesMax: size(8 << 20),
  /** Refusals that wait for their client to read them; beyond them it is taken for one that reads nothing. */
  responseRefusalsMax: size(1024),
  /** What all such connections remember of responses that are stored nowhere; the longest unused are forgotten. */
  recollectionBytesMax: size(256 << 20),
  /** What is read of an upstream's error. */
  errorBytesMax: size(64 << 10),
  /** Tokens of output that are reserved further, at one time, for a stream that has used what was reserved for it. */
  streamStepTokens: size(1_024),
  /** Tokens that a stream may go beyond what is reserved, before it is ended. */
  streamOverrunTokens: z.int().nonnegative().default(0),
  /** Relayed text that is kept until the provider tells its usage; counting stops there. */
  relayedTextCharsMax: size(4 << 20),
  /** Keys whose hash is remembered, so that a request costs no SHA-256. */
  identityCacheMax: size(10_000),
  /** Wrong keys of one address in a minute that are told to be wrong; further ones are told to wait. */
  wrongKeysPerMinuteMax: size(120),
  /** Addresses whose wrong keys are counted. */
  wrongKeyAddressesMax: size(10_000),
  /** Of one key no more than one use in so long is written down. */
  keyUseEveryMs: time(60_000),
  /** How long such a use waits for others before the registry is told. */
  keyUseFlushMs: time(5_000),
  /** Models that one request may be sent to, one after another. */
  attemptsMax: size(4),
  /** Assumed for a request and a model that both name no most. */
  outputTokensDefault: size(4096),
  /** Assumed for one image part; providers count 85 to about 1,600. */
  imageTokens: size(2048),
  /** Reserved for one document by its URL or id, whose length nobody knows before it is read. */
  documentTokens: size(32_768),
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
  /** How long a key rests that met a rate limit, where the provider does not say. */
  keyParkMs: time(1_000),
  /** Further calls of one model after a failed one, on any of its deployments; 0 makes none. */
  retriesMax: z.int().min(0).max(10).default(2),
  /** The longest first wait before the same deployment is called again; it doubles, and the wait is drawn below it. */
  retryWaitMs: time(250),
  /** The longest such wait, and the longest that an upstream may ask for with `retry-after` and be waited for. */
  retryWaitMsMax: time(4_000),
  /** Retries for each request to an upstream, over time: an outage is made larger by no more than this. */
  retryShare: z.number().min(0).max(1).default(0.2),
  /** Retries that are saved up at most, and there at the start. */
  retryReserve: size(20),
  /** Bytes of a stream that are held, so that what dies among them falls back unseen; 0 waits for the first word alone. */
  streamHoldBytes: z
    .int()
    .min(0)
    .max(1 << 20)
    .default(0),
  /** How long a stream is held after its first event. */
  streamHoldMs: time(15_000),
  /** How long the registry may hold a snapshot request open. */
  snapshotWaitMs: time(25_000),
  snapshotRetryMs: time(250),
  snapshotRetryMsMax: time(10_000),
  /** How long what a client wants stored (responses, conversations, completions) can be asked for; 0 keeps none. */
  responseRetentionDays: z.int().min(0).max(3650).default(30),
  /** JSON of the conversation that a response continues, and of one that is kept by name. */
  historyBytesMax: size(16 << 20),
  /** Items of one conversation. */
  conversationItemsMax: size(10_000),
  /** Conversations of one project. */
  projectConversationsMax: size(100_000),
  /** How long the database may take for one question about what is kept. */
  responseStoreTimeoutMs: time(2_000),
  /** How long an answer to a request with an `Idempotency-Key` is given again; 0 takes no notice of the header. */
  idempotencyHours: z.int().min(0).max(720).default(24),
  /** The largest answer that is kept for that; of a larger one only that it was given. */
  idempotencyAnswerBytesMax: size(1 << 20),
  /** Such answers of one project; the oldest go first. */
  idempotencyAnswersMax: size(10_000),
  /** Requests with a key at one time, whose answers are in memory as they come. */
  idempotencyUnderWayMax: size(256),
  /** How long the same request waits for the first one's answer. */
  idempotencyWaitMs: time(30_000),
  /** A gateway that gave no sign of life for so long has lost its requests, and others may make them. */
  idempotencyLeaseMs: time(30_000),
  /** How long an answer may be given again at most, whatever is asked for; 0 keeps none and takes no notice. */
  responseCacheTtlSecondsMax: z
    .int()
    .min(0)
    .max(30 * 86_400)
    .default(7 * 86_400),
  /** One kept answer, with what is known of it. */
  responseCacheAnswerBytesMax: size(1 << 20),
  /** Kept answers of one project, and of all; the longest unused go first. */
  responseCacheProjectEntriesMax: size(10_000),
  responseCacheProjectBytesMax: size(64 << 20),
  responseCacheEntriesMax: size(100_000),
  responseCacheBytesMax: size(256 << 20),
  /** Answers that are recorded at one time, in memory as they come; others pass by. */
  responseCacheUnderWayMax: size(256),
  /** How long a request waits for the answer to the same one that came before it. */
  responseCacheWaitMs: time(30_000),
  /** Background responses that run at one time: of one project, and of all on one database. */
  backgroundRunsPerProjectMax: size(32),
  backgroundRunsMax: size(128),
  /** Streams that follow background responses at one time: of one project, and of all at one gateway. */
  backgroundFollowersPerProjectMax: size(128),
  backgroundFollowersMax: size(1024),
  /** A background response's events, as they are kept for those who follow it. */
  backgroundEventsBytesMax: size(16 << 20),
  /** How long an event waits for company before it is written down. */
  backgroundFlushMs: time(100),
  /** How often a process says that it lives, and looks for news from others. */
  backgroundPollMs: time(1_000),
  /** Silence after which a process is taken for dead, and what it ran has failed. */
  backgroundLeaseMs: time(15_000),
  /** How long the database may take for one question about files, uploads and batches. */
  fileStoreTimeoutMs: time(10_000),
  /** The same where all of a file, or all results of a batch, are moved or removed at once. */
  fileMoveTimeoutMs: time(120_000),
  /** One file, and one that a batch reads. */
  fileBytesMax: size(512 << 20),
  batchFileBytesMax: size(200 << 20),
  /** All files of a project; a batch's output is written whatever they have come to. */
  projectFilesMax: size(10_000),
  projectFileBytesMax: size(4 * 2 ** 30),
  /** Files and parts of uploads that are received or read at one time: of all projects, and of one. */
  fileTransfersMax: size(64),
  fileTransfersPerProjectMax: size(16),
  /** How long a batch's input and output are kept when nothing else is asked for. */
  batchFileRetentionDays: size(30),
  /** One part of an upload, and parts of one upload. */
  partBytesMax: size(64 << 20),
  uploadPartsMax: size(1000),
  /** Uploads of a project that are not completed, and how long each may take. */
  projectUploadsMax: size(100),
  uploadTtlMs: time(60 * 60_000),
  /** Batches of a project that are not over. */
  projectBatchesMax: size(100),
  /** Batches that one gateway works on at a time, and lines of each that are under way. */
  batchesUnderWayMax: size(4),
  /** How long one of them is worked on while batches of other projects wait and there is no place. */
  batchTurnMs: time(5 * 60_000),
  batchLinesUnderWayMax: size(8),
  /** Lines of a batch, and bytes of a line. */
  batchLinesMax: size(50_000),
  batchLineBytesMax: size(8 << 20),
  /** Faults of an input file that are listed. */
  batchErrorsMax: size(1000),
  /** Results of a batch; what is left when they are as large is not executed. */
  batchOutputBytesMax: size(2 ** 30),
  /** Times that a line is sent whose model fails; limits are waited for as long as the batch may take. */
  batchAttemptsMax: size(10),
  /** Wait before a line is sent again: at first, doubling, and at most. */
  batchRetryMs: time(1_000),
  batchRetryMsMax: time(60_000),
  /** How soon a batch whose gateway is gone is taken up by another. */
  batchLeaseMs: time(30_000),
  /** How often a gateway looks for batches that others received. */
  batchPollMs: time(5_000),
  /** How long the database may look for the requests that a list asks for. */
  requestListTimeoutMs: time(10_000),
  /** Readers that follow the log of one gateway at one time, rows that wait for each, and how often it is looked for new ones. */
  liveLogSubscribersMax: size(64),
  liveLogRowsMax: size(1000),
  liveLogPollMs: time(250),
  /** Log lines of a gateway that runs alone that wait to be written; further ones are dropped. */
  logBytesMax: size(16 << 20),
  /** What is kept of a prompt, and of an answer, where a project lets it be; of a longer one its beginning. */
  contentBytesMax: size(256 << 10),
  /** Bytes of a stream that are heard for that: its events are many times as long as what they say. */
  contentStreamBytesMax: size(4 << 20),
  /** Contents in memory: of requests under way, and those that wait for the database. Beyond it they are not kept. */
  contentsBytesMax: size(64 << 20),
  /** Contents that are written, or deleted, at a time. */
  contentRowsMax: size(100),
  /** How long a content waits for company before it is written, and at most for a database that is away. */
  contentFlushMs: time(250),
  contentRetryMsMax: time(10_000),
  /** How often what has expired is deleted. */
  contentSweepMs: time(60_000),
  /** How long requests under way may take after the stop signal. */
  drainTimeoutMs: time(30_000),
});
export type GatewayLimits = z.infer<typeof gatewayLimits>;

export const defaultLimits: GatewayLimits = gatewayLimits.parse({});

/** What `main.ts` reads when the gateway runs alone. */
/** Ranges of addresses, joined by commas, of proxies that say where requests came from. */
export const trustedProxies = z
  .string()
  .default("")
  .transform((text) =>
    text
      .split(",")
      .map((range) => range.trim())
      .filter(Boolean),
  )
  .pipe(z.array(addressRange));

const environment = z
  .object({
    HOST: z.string().min(1).default("127.0.0.1"),
    PORT: z.coerce.number().int().min(0).max(65535).default(8787),
    SWITCHYARD_DATA_DIR: z.string().min(1).default(".switchyard"),
    SWITCHYARD_OPERATOR_KEY: z.string().min(16),
    SWITCHYARD_REGISTRY_URL: z.url(),
    SWITCHYARD_EVALS_URL: z.url().optional(),
    /** Seals contents that projects let be kept, see `content-log/master-keys.ts`; absent keeps none. */
    CONTENT_LOG_KEY: z.string().optional(),
    /** Where alerts of budgets are posted as JSON. */
    SWITCHYARD_BUDGET_ALERT_URL: z.url({ protocol: /^https?$/ }).optional(),
    DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
    TRUSTED_PROXIES: trustedProxies,
    /** Shares limits and budgets with other gateways; absent keeps them in this process. */
    REDIS_URL: z.url({ protocol: /^rediss?$/ }).optional(),
    /** Processes behind the one port; `auto` is one for each core. */
    WORKERS: z
      .literal("auto")
      .transform(() => availableParallelism())
      .or(z.coerce.number().int().min(1).max(512))
      .default(1),
    /** Where the metrics of all workers together are told, at `/metrics`. */
    METRICS_PORT: z.coerce.number().int().min(1).max(65535).optional(),
    /** A JSON list of upstreams, each as `providers/settings.ts` has it. */
    SWITCHYARD_UPSTREAMS: json(z.array(upstreamSettings), "[]"),
    /** JSON objects with the limits that differ from `gatewayLimits` above and from `meteringLimits`. */
    SWITCHYARD_LIMITS: json(gatewayLimits, "{}"),
    SWITCHYARD_METERING: json(meteringLimits, "{}"),
    /** Where people log in: JSON as `people/settings.ts` has it; absent knows keys alone. */
    SWITCHYARD_SIGN_IN: json(signInSettings.nullable(), "null").transform((it) => it ?? undefined),
    SWITCHYARD_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  })
  .refine(({ WORKERS, REDIS_URL }) => WORKERS === 1 || REDIS_URL !== undefined, {
    message: "several workers share limits and budgets in Redis: set REDIS_URL too",
    path: ["WORKERS"],
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
