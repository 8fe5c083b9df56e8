/** Settings of the adapter-server, and every limit that it keeps, by name. */
import { cpus } from "node:os";
import { basename, delimiter, resolve } from "node:path";
import { z } from "zod";
import { HubError, parseOrThrow } from "../sdk/protocol/errors.ts";
import { type Pooling, poolings } from "./engine/pooling.ts";
import { keyValueTypes } from "./models/graph-files.ts";
import { type ModelFormat, modelFormats } from "./models/import-model.ts";
import { isHubRef, parseHubRef } from "./models/library/source-ref.ts";

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
  /** Tokens that one step decodes, guessed ones included, up to which tokens are guessed; 0 guesses none. */
  speculationTokensMax: z.coerce.number().int().min(0).default(16),
  slotWaitMsMax: count.default(1000),
  /** After how long without a turn a `priority` comes as the one before it. */
  priorityAgeMs: count.default(2000),
  /** The longest time that a request may give itself (`x-switchyard-timeout-ms`). */
  timeoutMsMax: count.default(3_600_000),
  /** Answers to one request (`n`). */
  choicesMax: count.max(128).default(8),
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
  bodyBytesMax: count.default(4 << 20),
  /** Adapters in host memory that nobody uses are dropped beyond this. */
  adapterHostBytesMax: count.default(1 << 30),
  adapterDiskBytesMax: count.default(4 * 2 ** 30),
  adapterFileBytesMax: count.default(1 << 30),
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

export type Config = {
  host: string;
  port: number;
  model: { id: string; folder: string };
  format: ModelFormat;
  dataDir: string;
  threads: number;
  operatorKey: string | undefined;
  apiKey: string | undefined;
  adapterFolders: string[];
  registryUrl: string | undefined;
  prefixCache: boolean;
  embeddings: EmbeddingSettings;
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
    model: { id: parsed.MODEL_ID ?? defaultId(folder), folder },
    format: parsed.ADAPTER_SERVER_FORMAT,
    dataDir: resolve(parsed.SWITCHYARD_DATA_DIR),
    threads: parsed.ADAPTER_SERVER_THREADS ?? defaultThreads(),
    operatorKey: parsed.ADAPTER_SERVER_OPERATOR_KEY ?? parsed.SWITCHYARD_OPERATOR_KEY,
    apiKey: parsed.ADAPTER_SERVER_API_KEY,
    adapterFolders: (parsed.ADAPTER_SERVER_ADAPTER_FOLDERS ?? "")
      .split(delimiter)
      .filter((path) => path !== "")
      .map((path) => resolve(path)),
    registryUrl: parsed.REGISTRY_URL,
    prefixCache: parsed.ADAPTER_SERVER_PREFIX_CACHE,
    embeddings: {
      pooling: parsed.ADAPTER_SERVER_POOLING,
      matryoshka: parsed.ADAPTER_SERVER_MATRYOSHKA,
    },
    limits: readLimits(given),
  };
}

/** The folder's or file's name, or the repository's. */
function defaultId(model: string): string {
  return isHubRef(model) ? parseHubRef(model).repo : basename(model);
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
  ADAPTER_SERVER_THREADS: count.optional(),
  /** Whether prompts of one tenant share what is computed of them where they begin alike. */
  ADAPTER_SERVER_PREFIX_CACHE: z.stringbool().default(true),
  /** What an embedding is made of where a request does not say it. */
  ADAPTER_SERVER_POOLING: z.enum(poolings).default("last"),
  /** Whether the model was trained so that embeddings may be shortened. */
  ADAPTER_SERVER_MATRYOSHKA: z.stringbool().default(false),
  /** Folders below which `lora_path` may lie, separated as in PATH. */
  ADAPTER_SERVER_ADAPTER_FOLDERS: z.string().optional(),
  /** Where adapters are fetched by digest. */
  REGISTRY_URL: z.url().optional(),
});
