/** Settings of the adapter-server, and every limit that it keeps, by name. */
import { cpus } from "node:os";
import { basename, delimiter, resolve } from "node:path";
import { z } from "zod";
import { HubError, parseOrThrow } from "../sdk/protocol/errors.ts";
import { type Pooling, poolings } from "./engine/pooling.ts";
import { type DeclaredAdapter, parseDeclared } from "./lora/declared-adapters.ts";
import { keyValueTypes, type SingleFormat, singleFormats } from "./models/graph-files.ts";
import { type ModelFormat, modelFormats } from "./models/import-model.ts";
import { isHubRef, parseHubRef } from "./models/library/source-ref.ts";
import { type ToolFormat, toolFormats } from "./output/tools/formats.ts";

const count = z.coerce.number().int().positive();

/** What the server holds and refuses. Absent ones have defaults for a small machine. */
const limitValues = z.object({
  /** Adapter slots: adapters that decode in one step. */
  adapterSlots: count.max(256).default(8),
  adapterRankMax: count.max(256).default(32),
  /** Tokens that all sequences together keep in the KV cache. */
  kvCacheTokens: count.min(64).default(16_384),
  /** `int8` keeps four times as many tokens in the same memory, at a small loss. */
  kvCacheType: z.enum(keyValueTypes).default("f32"),
  /** Sequences that decode at one time. */
  sequencesMax: count.max(1024).default(32),
  /** Requests that wait to decode, and as many that wait for adapters; further ones are told to come back. */
  waitingMax: count.default(256),
  /** How long a request waits for its first step. */
  waitMsMax: count.default(60_000),
  stepTokensMax: count.default(512),
  prefillChunkMax: count.default(256),
  /**
   * How long a step may take for tokens of prompts; it has as many as this machine was seen to compute meanwhile, and 32
   * at least. 0 is however long they take.
   */
  promptMsMax: z.coerce.number().int().min(0).default(200),
  /** Tokens that one step decodes, guessed ones included, up to which tokens are guessed; 0 guesses none. */
  speculationTokensMax: z.coerce.number().int().min(0).default(16),
  /** Tokens of prompts of which one step tells how likely they were; each takes a row of logits in memory, twice. */
  scoredTokensMax: count.max(4096).default(32),
  slotWaitMsMax: count.default(1000),
  /** After how long without a turn a `priority` comes as the one before it. */
  priorityAgeMs: count.default(2000),
  /** The longest time that a request may give itself (`x-switchyard-timeout-ms`). */
  timeoutMsMax: count.default(3_600_000),
  /** Answers to one request (`n`). */
  choicesMax: count.max(128).default(8),
  /** Prompts of one text completion request, and their tokens together. */
  promptsMax: count.max(4096).default(128),
  promptTokensMax: count.default(131_072),
  /** Log-probabilities of prompts told in one answer, alternatives and every echo counted. */
  promptScoresMax: count.default(1_000_000),
  /** Stop strings of one request, and stop tokens. */
  stopsMax: count.max(1024).default(32),
  /** Tokens with a bias (`logit_bias`) in one request. */
  logitBiasMax: count.default(1024),
  badWordsMax: count.max(4096).default(128),
  /** Adapters in one mix. */
  mixPartsMax: count.max(64).default(8),
  /** Texts of one embeddings request, and their tokens together. */
  embeddingInputsMax: count.max(100_000).default(2048),
  embeddingTokensMax: count.default(300_000),
  /** How long a client may leave a stream's next frame unread; then the answer is ended. */
  unreadMsMax: count.default(60_000),
  /**
   * How long a connection without a request is kept. Longer than the longest `retry-after`: else who comes back as told
   * does so over a connection that is just being closed.
   */
  keepAliveMs: count.default(120_000),
  /** An encoder's graph and weights. A graph is read whole. */
  encoderBytesMax: count.max(2 ** 31 - 1).default(2 ** 31 - 1),
  /** Texts that an encoder computes in one native call, and their tokens with padding. */
  encoderBatchRowsMax: count.max(1024).default(32),
  encoderBatchTokensMax: count.default(4096),
  bodyBytesMax: count.default(4 << 20),
  /** Values in a body's JSON, list items included. */
  bodyValuesMax: count.default(500_000),
  /** Answers that follow a grammar at one time, waiting ones included. */
  grammarSequencesMax: count.max(4096).default(256),
  /** Of these, those of one caller. */
  grammarTenantSequencesMax: count.max(4096).default(128),
  /** Threads that find out what grammars allow next. */
  grammarThreadsMax: count.max(16).default(2),
  /** How long one may take to compile where answers of others are followed; what takes longer shares a thread of its kind. */
  grammarQuickMsMax: count.default(500),
  /** How long a grammar may take to compile at all, and to tell what it allows next. */
  grammarMsMax: count.default(10_000),
  /** How long a step waits for what grammars allow next; what is late sits it out. */
  grammarWaitMsMax: count.default(20),
  /** Characters of the grammar that a request's format comes to, and how often all of them may be looked up again meanwhile. */
  grammarCharsMax: count.default(2_000_000),
  grammarLookupsMax: count.default(10),
  /** Schemas within a JSON schema, how deep they may lie in one another, and comparisons of values that reading a request's may take. */
  schemasMax: count.default(2000),
  schemaDepthMax: count.max(500).default(64),
  schemaWorkMax: count.default(1_000_000),
  /** Memory of one such thread's grammars. */
  grammarBytesMax: count.max(2 ** 31).default(512 << 20),
  /** Compiled grammars that one such thread keeps. */
  grammarsCachedMax: count.default(64),
  /** Of all adapters in host memory together; loads wait while those in use fill it. */
  adapterHostBytesMax: count.default(1 << 30),
  adapterDiskBytesMax: count.default(4 * 2 ** 30),
  adapterFileBytesMax: count.default(1 << 30),
  /** Adapters that are read at one time from one kind of place: disk, folders, the registry. */
  adapterFetchesMax: count.max(64).default(8),
  /** How long an adapter's files may take to come. */
  adapterFetchMsMax: count.default(60_000),
  /** How long a load waits for adapters in use to leave host memory. */
  adapterRoomWaitMsMax: count.default(30_000),
  /** Threads that check and pack adapters; large ones leave one to small ones. */
  adapterPackersMax: count.max(16).default(2),
  /** Adapters that have a name. */
  adapterNamesMax: count.default(4096),
  /** Adapters that metrics tell apart; further ones are counted as 'other'. */
  adapterLabelsMax: count.default(1000),
  /** Starts in a row that may fail before the engine is left alone for a while. */
  engineRestartsMax: count.default(3),
  /** How long; then it is tried again. */
  engineDownMs: count.default(30_000),
});

/** With the one rule that binds two of them. */
export const serverLimits = limitValues.refine(
  ({ stepTokensMax, sequencesMax }) => stepTokensMax >= sequencesMax,
  {
    path: ["stepTokensMax"],
    message: "must be at least sequencesMax, so that every sequence can decode in every step",
  },
);
export type ServerLimits = z.infer<typeof serverLimits>;

export type EmbeddingSettings = { pooling: Pooling; matryoshka: boolean };
/** What clients call an encoder, and the folder that it was exported to. */
export type EncoderSetting = { id: string; folder: string };

export type Config = {
  host: string;
  port: number;
  model: { id: string; folder: string };
  format: ModelFormat;
  singleStream: SingleFormat | undefined;
  dataDir: string;
  threads: number;
  operatorKey: string | undefined;
  apiKey: string | undefined;
  adapterFolders: string[];
  /** In memory before the first request. */
  adapters: DeclaredAdapter[];
  registryUrl: string | undefined;
  prefixCache: boolean;
  toolFormat: ToolFormat | undefined;
  embeddings: EmbeddingSettings;
  encoder: EncoderSetting | undefined;
  limits: ServerLimits;
};

/**
 * Reads the environment, once.
 * @throws HubError that names the variable
 */
export function readConfig(env: Record<string, string | undefined>): Config {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const parsed = parseOrThrow(environment, given);
  const folder = isHubRef(parsed.MODEL) ? parsed.MODEL : resolve(parsed.MODEL);
  return {
    host: parsed.HOST,
    port: parsed.PORT,
    model: { id: asHeaderText(parsed.MODEL_ID ?? defaultId(folder), "MODEL_ID"), folder },
    format: parsed.ADAPTER_SERVER_FORMAT,
    singleStream: parsed.ADAPTER_SERVER_SINGLE_STREAM,
    dataDir: resolve(parsed.SWITCHYARD_DATA_DIR),
    threads: parsed.ADAPTER_SERVER_THREADS ?? defaultThreads(),
    operatorKey: parsed.ADAPTER_SERVER_OPERATOR_KEY ?? parsed.SWITCHYARD_OPERATOR_KEY,
    apiKey: parsed.ADAPTER_SERVER_API_KEY,
    adapterFolders: (parsed.ADAPTER_SERVER_ADAPTER_FOLDERS ?? "")
      .split(delimiter)
      .filter((path) => path !== "")
      .map((path) => resolve(path)),
    adapters: readDeclared(parsed),
    registryUrl: parsed.REGISTRY_URL,
    prefixCache: parsed.ADAPTER_SERVER_PREFIX_CACHE,
    toolFormat: parsed.ADAPTER_SERVER_TOOL_FORMAT,
    embeddings: {
      pooling: parsed.ADAPTER_SERVER_POOLING,
      matryoshka: parsed.ADAPTER_SERVER_MATRYOSHKA,
    },
    encoder: toEncoder(parsed),
    limits: readLimits(given),
  };
}

function readDeclared(env: z.infer<typeof environment>): DeclaredAdapter[] {
  const [preload, pin] = [env.ADAPTER_SERVER_PRELOAD ?? "", env.ADAPTER_SERVER_PIN ?? ""];
  return [
    ...parseDeclared(pin, { pinned: true, variable: "ADAPTER_SERVER_PIN" }),
    ...parseDeclared(preload, { pinned: false, variable: "ADAPTER_SERVER_PRELOAD" }),
  ];
}

/** The folder's or file's name, or the repository's. */
function defaultId(model: string): string {
  return isHubRef(model) ? parseHubRef(model).repo : basename(model);
}

function toEncoder({
  ADAPTER_SERVER_ENCODER: path,
  ADAPTER_SERVER_ENCODER_ID: id,
}: z.infer<typeof environment>): EncoderSetting | undefined {
  if (path === undefined) return undefined;
  const folder = resolve(path);
  return { folder, id: asHeaderText(id ?? basename(folder), "ADAPTER_SERVER_ENCODER_ID") };
}

/** Each answer names its model in a header. @throws HubError `invalid_value` */
function asHeaderText(id: string, variable: string): string {
  if (/^[\x20-\x7e]+$/.test(id)) return id;
  throw new HubError(
    "invalid_value",
    `${variable}: '${id}' cannot be a model's name, which headers carry: only letters, digits and signs of ASCII can. Set ${variable} to such a name.`,
    { param: variable },
  );
}

/** All cores: the engine's threads hardly spin, so the other threads get theirs when they need it. */
export function defaultThreads(): number {
  return Math.max(1, cpus().length);
}

/** `ADAPTER_SERVER_KV_CACHE_TOKENS` is `kvCacheTokens`, and so on for every limit. */
function readLimits(env: Record<string, string | undefined>): ServerLimits {
  const variable = (name: string) =>
    `ADAPTER_SERVER_${name.replaceAll(/[A-Z]/g, "_$&").toUpperCase()}`;
  const given = Object.keys(serverLimits.shape).flatMap((name) => {
    const value = env[variable(name)];
    return value === undefined ? [] : [[name, value]];
  });
  const parsed = serverLimits.safeParse(Object.fromEntries(given));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const name = variable(String(issue?.path[0]));
  throw new HubError("invalid_value", `${name}: ${issue?.message}`, { param: name });
}

const key = z.string().min(16);
/** `off` also leaves unused what an import has of them. */
export const singleStream = z
  .enum(["off", ...singleFormats])
  .default("off")
  .transform((format) => (format === "off" ? undefined : format));

const environment = z.object({
  /** A Hugging Face model folder, a GGUF file, or `hf:owner/name@revision` of what was pulled before. */
  MODEL: z.string().min(1),
  /** What clients call it; the folder's name when absent. */
  MODEL_ID: z.string().min(1).optional(),
  HOST: z.string().min(1).default("127.0.0.1"),
  PORT: z.coerce.number().int().min(0).max(65_535).default(8000),
  SWITCHYARD_DATA_DIR: z.string().min(1).default(".switchyard"),
  SWITCHYARD_OPERATOR_KEY: key.optional(),
  ADAPTER_SERVER_OPERATOR_KEY: key.optional(),
  ADAPTER_SERVER_API_KEY: key.optional(),
  ADAPTER_SERVER_FORMAT: z.enum(modelFormats).default("auto"),
  /** How weights for steps in which a single sequence decodes are stored, beside the others. */
  ADAPTER_SERVER_SINGLE_STREAM: singleStream,
  ADAPTER_SERVER_THREADS: count.optional(),
  /** Whether prompts of one tenant share what is computed of them where they begin alike. */
  ADAPTER_SERVER_PREFIX_CACHE: z.stringbool().default(true),
  /** How the model writes tool calls, where its chat template does not tell. */
  ADAPTER_SERVER_TOOL_FORMAT: z.enum(toolFormats).optional(),
  /** What an embedding is made of where a request does not say it. */
  ADAPTER_SERVER_POOLING: z.enum(poolings).default("last"),
  /** Whether the model was trained so that embeddings may be shortened. */
  ADAPTER_SERVER_MATRYOSHKA: z.stringbool().default(false),
  /** A sentence-transformers folder with an ONNX export, and what clients call it; the folder's name when absent. */
  ADAPTER_SERVER_ENCODER: z.string().min(1).optional(),
  ADAPTER_SERVER_ENCODER_ID: z.string().min(1).optional(),
  /** Folders below which `lora_path` may lie, separated as in PATH. */
  ADAPTER_SERVER_ADAPTER_FOLDERS: z.string().optional(),
  /** Adapters in memory from the start, as `name=folder` or `sha256-…`, separated by commas. */
  ADAPTER_SERVER_PRELOAD: z.string().optional(),
  /** The same for adapters that are never evicted from slots and memory. */
  ADAPTER_SERVER_PIN: z.string().optional(),
  /** Where adapters are fetched by digest. */
  REGISTRY_URL: z.url().optional(),
});
