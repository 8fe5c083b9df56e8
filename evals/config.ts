/** Settings of a stand-alone evals process, read once from the environment, and the limits with their names. */
import { z } from "zod";

/** What bounds datasets and runs. Every field has a default, so tests name only what they change. */
export const limitsSchema = z.object({
  datasetBytesMax: z
    .int()
    .positive()
    .default(64 << 20),
  /** A request's JSON. */
  jsonBytesMax: z
    .int()
    .positive()
    .default(1 << 20),
  datasetRowsMax: z.int().positive().default(100_000),
  datasetLineBytesMax: z
    .int()
    .positive()
    .default(1 << 20),
  /** Runs at one time, over all projects and in one of them. */
  activeRunsMax: z.int().positive().default(16),
  activeRunsPerProjectMax: z.int().positive().default(4),
  /** How often one row is sent before it counts as errored. */
  attemptsMax: z.int().positive().default(5),
  rowTimeoutMs: z.int().positive().default(120_000),
  /** The first wait before another attempt; each later one is up to twice as long. */
  retryDelayMs: z.int().positive().default(500),
  /** The longest wait that a `retry-after` may ask for. */
  retryDelayMsMax: z.int().positive().default(60_000),
  answerBytesMax: z
    .int()
    .positive()
    .default(1 << 20),
  /** How long a regular expression may look at one answer. */
  matchMsMax: z.int().positive().default(200),
  pageMax: z.int().positive().default(100),
  answersPageMax: z.int().positive().default(1000),
});
export type Limits = z.infer<typeof limitsSchema>;
export const defaultLimits: Limits = limitsSchema.parse({});

export type Config = {
  host: string;
  port: number;
  dataDir: string;
  databaseUrl: string;
  gatewayUrl: string;
  registryUrl: string;
};

/** @throws z.ZodError that names each variable at fault */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const parsed = environment.parse(env);
  return {
    host: parsed.HOST,
    port: parsed.PORT,
    dataDir: parsed.SWITCHYARD_DATA_DIR,
    databaseUrl: parsed.DATABASE_URL,
    gatewayUrl: parsed.SWITCHYARD_GATEWAY_URL,
    registryUrl: parsed.SWITCHYARD_REGISTRY_URL,
  };
}

const environment = z.object({
  HOST: z.string().default("127.0.0.1"),
  PORT: z.coerce.number().int().min(0).max(65_535).default(8790),
  SWITCHYARD_DATA_DIR: z.string().min(1).default(".switchyard"),
  DATABASE_URL: z.url(),
  SWITCHYARD_GATEWAY_URL: z.url(),
  SWITCHYARD_REGISTRY_URL: z.url(),
});
