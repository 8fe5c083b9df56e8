/** Puts the gateway's parts together; what differs between one process and many is passed in. */
import type { Logger } from "pino";
import type postgres from "postgres";
import type { Registry } from "prom-client";
import { HubError } from "../sdk/protocol/errors.ts";
import type { Fetcher } from "../sdk/protocol/http.ts";
import { type AppParts, createApp, type KeptStores } from "./app.ts";
import { openUpstreams } from "./attempts/open-upstreams.ts";
import { BackgroundRuns } from "./background/runs.ts";
import type { RunStore } from "./background/store.ts";
import { BatchRunner } from "./batches/runner.ts";
import type { BatchStore } from "./batches/store.ts";
import { defaultLimits, type GatewayLimits } from "./config.ts";
import type { ContentLog } from "./content-log/content-log.ts";
import type { MasterKeys } from "./content-log/master-keys.ts";
import { openContentLog } from "./content-log/open.ts";
import type { FileStore } from "./files/store.ts";
import type { UploadStore } from "./files/uploads.ts";
import { Forms } from "./http/form.ts";
import type { Upgrade } from "./http/server.ts";
import { Idempotency } from "./idempotency/idempotency.ts";
import type { IdempotencyStore } from "./idempotency/store.ts";
import { Identity } from "./identity/identity.ts";
import { KeyUse } from "./identity/key-use.ts";
import { WrongKeys } from "./identity/wrong-keys.ts";
import { InFlight } from "./in-flight.ts";
import { forgetExpired } from "./kept/forget.ts";
import type { PriceSource } from "./ledger/price-book.ts";
import type { Accounts } from "./metering/types.ts";
import { createMetrics } from "./metrics.ts";
import { OtlpExporter } from "./observing/otlp.ts";
import { readOtlpSettings } from "./observing/otlp-settings.ts";
import { People } from "./people/people.ts";
import type { SignIn } from "./people/routes.ts";
import type { SignInSettings } from "./people/settings.ts";
import { openProviders } from "./providers/open-providers.ts";
import type { UpstreamSettings } from "./providers/settings.ts";
import { createRealtime } from "./realtime/realtime.ts";
import { addCacheMetrics } from "./response-cache/figures.ts";
import { ResponseCache } from "./response-cache/response-cache.ts";
import type { ResponseCacheStore } from "./response-cache/store.ts";
import { createResponseSockets, responsesPath } from "./responses/sockets.ts";
import type { SnapshotIndex } from "./snapshot/snapshot-index.ts";
import { SnapshotStore } from "./snapshot/snapshot-store.ts";
import { loadTokenizer } from "./tokens/count.ts";

export type GatewayParts = {
  upstreams: readonly UpstreamSettings[];
  /** The adapter-server of this process; models name it as the upstream `embedded`. */
  embedded?: Fetcher | undefined;
  registry: Fetcher;
  operatorKey: string;
  /** Where people log in; absent knows keys alone. */
  signIn?: SignInSettings | undefined;
  evals?: Fetcher | undefined;
  /** Built with the gateway's own policy, because prices and limits come from it. */
  accounts: (policy: Policy) => Accounts | Promise<Accounts>;
  reports?: ((policy: Policy) => Fetcher) | undefined;
  dashboard?: Fetcher | undefined;
  /** What is kept for clients; absent keeps nothing. */
  kept?: (KeptStores & { runs: RunStore }) | undefined;
  /** Honours `Idempotency-Key`; absent takes no notice of it. */
  idempotency?: IdempotencyStore | undefined;
  /** Where answers are kept that are given again; absent keeps none. */
  responseCache?: ResponseCacheStore | undefined;
  /** Absent keeps no files and runs no batches. */
  filing?:
    | { sql: postgres.Sql; files: FileStore; uploads: UploadStore; batches: BatchStore }
    | undefined;
  /** Where contents are kept of projects that let them be; absent keeps none. */
  contents?: { sql: postgres.Sql; masterKeys: MasterKeys } | undefined;
  /** Where `snapshot.json` is kept; absent keeps nothing on disk. */
  dataDir?: string | undefined;
  logger: Logger;
  limits?: Partial<GatewayLimits> | undefined;
  /** Where upstreams' `apiKeyEnv` is looked up. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Milliseconds since 1970. */
  now?: (() => number) | undefined;
  /** Uniform in [0, 1), for waits and for sharing out calls. */
  random?: (() => number) | undefined;
};

/** What accounts and reports ask of the gateway. */
export type Policy = {
  /** @throws HubError `database_unavailable` while there is none */
  snapshot: () => SnapshotIndex;
  prices: PriceSource;
  identity: Identity;
  /** Absent where only keys are known. */
  people?: People | undefined;
};

export type Gateway = {
  app: ReturnType<typeof createApp>;
  /** For connections that ask to become WebSockets: realtime sessions, and one response after another. */
  upgrade: Upgrade;
  /** Where others of this process add their own metrics. */
  metrics: Registry;
  /** Loads the policy and follows the registry from then on. Resolves also when the registry is away. */
  start(): Promise<void>;
  /** Asks the registry for its policy now; the all-in-one does so after it has declared its settings. */
  refresh(): Promise<void>;
  /** Refuses new requests, waits for those under way, lets go of connections. */
  stop(): Promise<void>;
};

export async function createGateway(parts: GatewayParts): Promise<Gateway> {
  const limits = { ...defaultLimits, ...parts.limits };
  const now = parts.now ?? Date.now;
  const { logger, operatorKey, registry, dataDir } = parts;
  const store = new SnapshotStore({
    registry,
    operatorKey,
    dataDir,
    waitMs: limits.snapshotWaitMs,
    retryMs: limits.snapshotRetryMs,
    retryMsMax: limits.snapshotRetryMsMax,
    now,
    logger,
  });
  const snapshot = () => store.current() ?? noPolicy();
  const keyUse = new KeyUse({
    registry,
    operatorKey,
    now,
    everyMs: limits.keyUseEveryMs,
    flushMs: limits.keyUseFlushMs,
    keysMax: limits.identityCacheMax,
    onError: (error) => logger.warn({ error: String(error) }, "uses of keys were not told"),
  });
  const identity = new Identity({
    snapshot,
    now,
    cacheMax: limits.identityCacheMax,
    onUse: (id) => keyUse.note(id),
  });
  const signIn = parts.signIn && openSignIn(parts.signIn, { ...parts, now });
  const policy: Policy = {
    snapshot,
    identity,
    people: signIn?.people,
    prices: (...asked) => snapshot().price(...asked),
  };
  const random = parts.random ?? Math.random;
  const opened = openProviders({ ...parts, limits, env: parts.env ?? process.env, now });
  const upstreams = openUpstreams(opened, { limits, now, random });
  const inFlight = new InFlight(limits.requestsInFlightMax);
  const background =
    parts.kept && new BackgroundRuns({ store: parts.kept.runs, inFlight, limits, logger, now });
  const metrics = createMetrics(
    () => store.ageMs(),
    () => upstreams.values(),
  );
  const idempotency =
    parts.idempotency && new Idempotency({ store: parts.idempotency, logger, limits, now });
  const otlp = readOtlpSettings(parts.env ?? process.env);
  const telemetry =
    otlp &&
    new OtlpExporter({
      settings: otlp,
      logger,
      onDropped: (spans) => metrics.droppedSpans.inc(spans),
      now,
    });
  const { filing, responseCache: cacheStore } = parts;
  const responseCache =
    cacheStore && new ResponseCache({ store: cacheStore, logger, metrics, limits, now });
  if (cacheStore) addCacheMetrics(metrics.registry, cacheStore);
  const contentLog: ContentLog | undefined =
    parts.contents &&
    openContentLog(parts.contents, {
      projects: () => store.current()?.projects ?? [],
      metrics: metrics.registry,
      logger,
      limits,
      now,
      random,
    });
  const appParts: AppParts = {
    identity,
    wrongKeys: new WrongKeys({
      now,
      perMinuteMax: limits.wrongKeysPerMinuteMax,
      addressesMax: limits.wrongKeyAddressesMax,
    }),
    snapshot,
    refreshSnapshot: () =>
      store.refresh().catch((error) => {
        logger.warn({ error: String(error) }, "snapshot refresh failed");
      }),
    upstreams,
    accounts: await parts.accounts(policy),
    registry,
    operatorKey,
    signIn,
    evals: parts.evals,
    reports: parts.reports?.(policy),
    dashboard: parts.dashboard,
    kept: parts.kept,
    background,
    forms: new Forms(dataDir, limits),
    idempotency,
    responseCache,
    contentLog,
    filing: filing && { ...filing, wake: () => runner?.wake() },
    inFlight,
    metrics,
    telemetry,
    logger,
    limits,
    now,
    random,
  };
  const app = createApp(appParts);
  const realtime = createRealtime(appParts);
  const responseSockets = createResponseSockets({ ...appParts, ask: app.fetch });
  const runner =
    filing &&
    new BatchRunner({
      ...filing,
      ask: app.fetch,
      sweep: async () => {
        await filing.files.sweep();
        await filing.uploads.sweep();
        await forgetExpired(filing.sql, now);
      },
      limits,
      logger,
      onLine: (outcome) => metrics.batchLines.inc({ outcome }),
      now,
      random,
    });
  return {
    app,
    upgrade(incoming, socket, head) {
      const isResponses = incoming.url?.split("?")[0] === responsesPath;
      (isResponses ? responseSockets : realtime).upgrade(incoming, socket, head);
    },
    metrics: metrics.registry,
    async start() {
      await store.start();
      for (const model of store.current()?.models ?? []) {
        if (model.tokenizer) loadTokenizer(model.tokenizer);
      }
      runner?.start();
    },
    refresh: () => store.refresh(),
    async stop() {
      responseSockets.close();
      await realtime.close();
      await runner?.stop();
      await inFlight.drain(limits.drainTimeoutMs);
      await contentLog?.close();
      await idempotency?.close();
      await background?.stop();
      responseCache?.close();
      await keyUse.close();
      await store.stop();
      await telemetry?.close();
      const deployments = [...upstreams.values()].flatMap((it) => it.deployments);
      await Promise.all(deployments.map(({ provider }) => provider.transport.close()));
    },
  };
}

/** @throws Error when the variable with the client's secret is not set */
function openSignIn(
  settings: SignInSettings,
  {
    registry,
    operatorKey,
    env = process.env,
    now,
  }: Pick<GatewayParts, "registry" | "operatorKey" | "env"> & { now: () => number },
): SignIn {
  const { clientSecretEnv } = settings;
  const secret = clientSecretEnv === undefined ? undefined : env[clientSecretEnv];
  if (clientSecretEnv !== undefined && !secret) {
    throw new Error(`signIn.clientSecretEnv names ${clientSecretEnv}, which is not set`);
  }
  return { people: new People({ settings, registry, operatorKey, now }), secret, operatorKey };
}

function noPolicy(): never {
  throw new HubError(
    "database_unavailable",
    "This gateway has not received its policy from the registry yet.",
    { retryAfterMs: 1000 },
  );
}
