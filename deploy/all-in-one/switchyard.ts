/** The whole of Switchyard in one process: the services of `ARCHITECTURE.md`, joined by their `fetch`. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Logger } from "pino";
import { serverLimits } from "../../adapter-server/config.ts";
import { registrySource } from "../../adapter-server/lora/adapter-source.ts";
import { type AdapterServer, createAdapterServer } from "../../adapter-server/server.ts";
import { openEvals } from "../../evals/open.ts";
import { createDashboard } from "../../gateway/dashboard/dashboard.ts";
import type { Upgrade } from "../../gateway/http/server.ts";
import { openGateway } from "../../gateway/open-gateway.ts";
import packageJson from "../../package.json" with { type: "json" };
import { openRegistry } from "../../registry/registry.ts";
import type { Fetcher } from "../../sdk/protocol/http.ts";
import { type LoadedSettings, StartError } from "../settings/load.ts";
import { type Database, openDatabase } from "./database.ts";
import { toDeclared } from "./declared.ts";
import type { FirstKeys } from "./first-keys.ts";
import { keepTrying } from "./keep-trying.ts";
import { lateService } from "./late-service.ts";
import { seedAdapters } from "./seed-adapters.ts";
import { warmAdapters } from "./warm-adapters.ts";

export type SwitchyardParts = {
  loaded: LoadedSettings;
  dataDir: string;
  keys: FirstKeys;
  env: NodeJS.ProcessEnv;
  logger: Logger;
  /** Told what is being done, for a person who waits. */
  onProgress: (what: string) => void;
  /** Looked at between two steps of the start: none is left half done. */
  signal: AbortSignal;
};

export type Switchyard = {
  /** The public door. */
  fetch: Fetcher["fetch"];
  /** For connections that ask to become WebSockets. */
  upgrade: Upgrade;
  /** Drains what is under way, then stops the parts, the last opened first. */
  close(): Promise<void>;
};

/** Between two tries to reach a database that was away at the start. */
const RETRY_MS = 2000;

/**
 * Opens all parts in the order in which they need each other. A database that is away is no reason not to
 * serve where a snapshot of the policy is on disk: registry and evals then follow when it answers.
 * @throws StartError for what an operator can mend; HubError `unsupported_model` for a checkpoint; the
 *   signal's reason, with everything closed
 */
export async function openSwitchyard(parts: SwitchyardParts): Promise<Switchyard> {
  const { loaded, dataDir, env, logger, onProgress, signal } = parts;
  const operatorKey = env.SWITCHYARD_OPERATOR_KEY || randomBytes(32).toString("hex");
  const closers: (() => unknown)[] = [];
  const close = async () => {
    for (const closePart of closers.splice(0).reverse()) {
      try {
        await closePart();
      } catch (error) {
        logger.error({ error: String(error) }, "a part did not close");
      }
    }
  };

  try {
    onProgress("opening the database");
    const database = await openDatabase({ dataDir, url: env.DATABASE_URL, logger });
    closers.push(() => database.close());
    signal.throwIfAborted();

    const registryDoor = lateService();
    const evalsDoor = lateService();
    const engine = await openEngine(parts, registryDoor, operatorKey);
    closers.push(() => engine?.close());
    signal.throwIfAborted();

    const dashboard = createDashboard();
    const gateway = await openGateway({
      sql: database.connect(),
      dataDir,
      upstreams: loaded.settings.upstreams,
      embedded: engine && { fetch: async (request) => engine.app.fetch(request) },
      registry: registryDoor,
      evals: evalsDoor,
      dashboard: { fetch: async (request) => dashboard.fetch(request) },
      operatorKey,
      redisUrl: env.REDIS_URL || undefined,
      budgetAlertUrl: env.SWITCHYARD_BUDGET_ALERT_URL || undefined,
      contentLogKey: env.CONTENT_LOG_KEY || undefined,
      signIn: loaded.settings.signIn,
      limits: loaded.settings.gateway,
      meteringLimits: loaded.settings.metering,
      env,
      logger,
    });
    closers.push(() => gateway.stop());
    signal.throwIfAborted();
    const door: Fetcher = { fetch: async (request) => gateway.app.fetch(request) };

    const openControlPlane = async () => {
      const unreachable = database.isRemote ? await reach(database) : undefined;
      if (unreachable) throw unreachable;
      const registry = await openRegistry({
        sql: database.connect(),
        dataDir,
        operatorKey,
        logger,
      });
      await declareSettings(registry, parts, engine);
      registryDoor.open(registry.app);
      await warmEngine(engine, parts, registry.app);
      const evals = await openEvals({
        sql: database.connect(),
        datasetFolder: join(dataDir, "datasets"),
        gateway: door,
        registry: registry.app,
        log: logger,
      });
      closers.push(() => evals.close());
      evalsDoor.open({ fetch: async (request) => evals.app.fetch(request) });
    };
    const stopTrying = await openNowOrLater(openControlPlane, database, parts);
    closers.push(stopTrying);
    signal.throwIfAborted();
    await gateway.start();
    signal.throwIfAborted();
    return { fetch: door.fetch, upgrade: gateway.upgrade, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openEngine(
  { loaded, dataDir, logger, onProgress }: SwitchyardParts,
  registry: Fetcher,
  operatorKey: string,
): Promise<AdapterServer | undefined> {
  const { embedded } = loaded.settings;
  if (!embedded) return undefined;
  onProgress(`loading ${embedded.id}`);
  const limits = serverLimits.parse({
    adapterSlots: embedded.adapterSlots,
    adapterRankMax: embedded.adapterRankMax,
    kvCacheTokens: embedded.kvCacheTokens,
    kvCacheType: embedded.kvCacheType,
    speculationTokensMax: embedded.speculationTokensMax,
  });
  return createAdapterServer({
    model: {
      id: embedded.id,
      folder: embedded.model ?? resolve(loaded.folder, embedded.folder ?? ""),
    },
    format: embedded.format,
    singleStream: embedded.singleStream,
    dataDir,
    threads: embedded.threads,
    prefixCache: embedded.prefixCache,
    toolFormat: embedded.toolFormat,
    operatorKey,
    source: registrySource({ registry, operatorKey, fileBytesMax: limits.adapterFileBytesMax }),
    limits,
    version: packageJson.version,
    onFault: (message, cause) => logger.error({ error: String(cause) }, message),
    onAdapterEvent: (event) => logger.info(event, "adapter"),
    onProgress: (done) => onProgress(`importing ${embedded.id}: ${Math.round(done * 100)} %`),
  });
}

/** What is pinned, or was to be there from the start, is loaded before the first request. */
async function warmEngine(
  engine: AdapterServer | undefined,
  { loaded, keys, logger, onProgress }: SwitchyardParts,
  registry: Fetcher,
): Promise<void> {
  const { embedded } = loaded.settings;
  if (!engine || !embedded) return;
  await warmAdapters({
    embedded,
    engine,
    adminKey: keys.adminKey,
    registry,
    onProgress,
    onFault: (message, cause) => logger.error({ error: String(cause) }, message),
  });
}

/** The first keys, the settings' models, routes and prices, and the adapters that come with them. */
async function declareSettings(
  registry: Awaited<ReturnType<typeof openRegistry>>,
  { loaded, keys, onProgress }: SwitchyardParts,
  engine: AdapterServer | undefined,
): Promise<void> {
  const { settings, folder } = loaded;
  const { limits, budget } = settings.firstProject;
  const { projectId } = await registry.bootstrap({
    adminKey: keys.adminKey,
    apiKey: keys.apiKey,
    limits,
    budget,
  });
  await registry.applyDeclared(toDeclared(settings, engine?.model));
  if (!settings.embedded) return;
  const { embedded } = settings;
  await seedAdapters({
    embedded,
    folder,
    projectId,
    adminKey: keys.adminKey,
    registry: registry.app,
    onProgress,
  });
}

/**
 * Opens the control plane now, or keeps trying while a remote database is away and a policy is on disk.
 * @returns a function that ends the trying
 */
async function openNowOrLater(
  open: () => Promise<void>,
  database: Database,
  { dataDir, logger, onProgress }: SwitchyardParts,
): Promise<() => Promise<void>> {
  const outage = database.isRemote ? await reach(database) : undefined;
  if (outage === undefined) {
    await open();
    return async () => {};
  }
  if (!existsSync(join(dataDir, "snapshot.json"))) {
    throw new StartError(`the database of DATABASE_URL does not answer: ${outage.message}`, {
      cause: outage,
    });
  }
  onProgress("the database does not answer; serving with the policy that is on disk");
  return keepTrying(open, {
    everyMs: RETRY_MS,
    onFailure: (error) => logger.warn({ error: String(error) }, "the control plane did not open"),
  });
}

/** @returns the error when the database does not answer */
async function reach(database: Database): Promise<Error | undefined> {
  const sql = database.connect();
  try {
    await sql`select 1`;
    return undefined;
  } catch (error) {
    return error as Error;
  } finally {
    await sql.end({ timeout: 1 });
  }
}
