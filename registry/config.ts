/** The registry's environment and every limit it works within, each with its name. */
import { z } from "zod";

/** Bounds of bodies, waits and lists. Times are milliseconds, sizes bytes. */
const registryLimits = z.strictObject({
  jsonBytesMax: size(1 << 20),
  adapterConfigBytesMax: size(1 << 20),
  adapterWeightsBytesMax: size(1 << 30),
  /** Rows that an adapter slot can hold in any engine; an engine may hold fewer. */
  adapterRankMax: size(256),
  /** Pushes hold their files in memory; more than this many at a time wait for nothing and are told to retry. */
  pushesMax: size(2),
  /** How long a snapshot request may be held open. */
  snapshotWaitMsMax: size(30_000),
  /** How soon a change that another process made is seen. */
  snapshotPollMs: size(500),
  pageSizeMax: size(100),
  /** Sessions of one person; the oldest end. */
  sessionsPerUserMax: size(20),
  /** Keys that one person may make or rotate within an hour. */
  ownKeyChangesPerHour: size(60),
  /** Texts of one key that was rotated, which never come back: its first, and the newest. */
  retiredHashesMax: size(100),
  /** How long gateways are told of a key that was revoked or has expired, so that they can say so. */
  endedKeysMs: size(86_400_000),
  /** How long an invitation may wait to be taken, and how many may. */
  inviteDays: size(7),
  invitesPendingMax: size(1000),
  /** Keys that nobody has, remembered for half a second so that the same one is looked up no more often. */
  unknownKeysMax: size(10_000),
});
export type RegistryLimits = z.infer<typeof registryLimits>;

export const defaultLimits: RegistryLimits = registryLimits.parse({});

/** What `main.ts` reads when the registry runs alone. */
const environment = z.object({
  HOST: z.string().min(1).default("127.0.0.1"),
  PORT: z.coerce.number().int().min(0).max(65535).default(8790),
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  DATABASE_CONNECTIONS_MAX: z.coerce.number().int().min(1).max(100).default(8),
  SWITCHYARD_DATA_DIR: z.string().min(1).default(".switchyard"),
  SWITCHYARD_OPERATOR_KEY: z.string().min(16),
  SWITCHYARD_ADMIN_KEY: z.string().min(16).optional(),
  SWITCHYARD_API_KEY: z.string().min(16).optional(),
  SWITCHYARD_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
});
export type RegistryEnvironment = z.infer<typeof environment>;

/** @throws ZodError naming each variable that is missing or wrong */
export function readEnvironment(env: NodeJS.ProcessEnv): RegistryEnvironment {
  return environment.parse(env);
}

function size(byDefault: number) {
  return z.int().positive().default(byDefault);
}
