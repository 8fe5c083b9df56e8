/** Puts the gateway's parts together; what differs between one process and many is passed in. */
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { HubError } from "../sdk/protocol/errors.ts";
import type { Fetcher } from "../sdk/protocol/http.ts";
import { createApp } from "./app.ts";
import { Breaker } from "./attempts/breaker.ts";
import { defaultLimits, type GatewayLimits } from "./config.ts";
import { Identity } from "./identity/identity.ts";
import { InFlight } from "./in-flight.ts";
import type { PriceSource } from "./ledger/price-book.ts";
import type { Accounts } from "./metering/types.ts";
import { createMetrics } from "./metrics.ts";
import { openProviders } from "./providers/open-providers.ts";
import type { UpstreamSettings } from "./providers/settings.ts";
import type { ResponseStore } from "./responses/store.ts";
import type { SnapshotIndex } from "./snapshot/snapshot-index.ts";
import { SnapshotStore } from "./snapshot/snapshot-store.ts";
import { loadTokenizer } from "./tokens/count.ts";

export type GatewayParts = {
  upstreams: readonly UpstreamSettings[];
  /** The adapter-server of this process; models name it as the upstream `embedded`. */
  embedded?: Fetcher | undefined;
  registry: Fetcher;
  operatorKey: string;
  evals?: Fetcher | undefined;
  /** Built with the gateway's own policy, because prices and limits come from it. */
  accounts: (policy: Policy) => Accounts | Promise<Accounts>;
  reports?: ((policy: Policy) => Fetcher) | undefined;
  dashboard?: Fetcher | undefined;
  responses?: ResponseStore | undefined;
  /** Where `snapshot.json` is kept; absent keeps nothing on disk. */
  dataDir?: string | undefined;
  logger: Logger;
  limits?: Partial<GatewayLimits> | undefined;
  /** Where upstreams' `apiKeyEnv` is looked up. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Milliseconds since 1970. */
  now?: (() => number) | undefined;
};

/** What accounts and reports ask of the gateway. */
export type Policy = {
  /** @throws HubError `database_unavailable` while there is none */
  snapshot: () => SnapshotIndex;
  prices: PriceSource;
  identity: Identity;
};

export type Gateway = {
  app: ReturnType<typeof createApp>;
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
  const identity = new Identity({ snapshot, now, cacheMax: limits.identityCacheMax });
  const policy: Policy = {
    snapshot,
    identity,
    prices: (model, meter, atMs) => snapshot().price(model, meter, atMs),
  };
  const upstreams = new Map(
    [...openProviders({ ...parts, limits, env: parts.env ?? process.env, now })].map(
      ([name, provider]) => [name, { provider, breaker: openBreaker(limits, now) }],
    ),
  );
  const inFlight = new InFlight(limits.requestsInFlightMax);
  const metrics = createMetrics(
    () => store.ageMs(),
    () => [...upstreams].map(([name, { breaker }]) => [name, breaker.state] as const),
  );
  const app = createApp({
    identity,
    snapshot,
    refreshSnapshot: () =>
      store.refresh().catch((error) => {
        logger.warn({ error: String(error) }, "snapshot refresh failed");
      }),
    upstreams,
    accounts: await parts.accounts(policy),
    registry,
    evals: parts.evals,
    reports: parts.reports?.(policy),
    dashboard: parts.dashboard,
    responses: parts.responses,
    inFlight,
    metrics,
    logger,
    limits,
    now,
  });
  return {
    app,
    metrics: metrics.registry,
    async start() {
      await store.start();
      for (const model of store.current()?.models ?? []) {
        if (model.tokenizer) loadTokenizer(model.tokenizer);
      }
    },
    refresh: () => store.refresh(),
    async stop() {
      await inFlight.drain(limits.drainTimeoutMs);
      await store.stop();
      await Promise.all([...upstreams.values()].map(({ provider }) => provider.transport.close()));
    },
  };
}

function openBreaker(limits: GatewayLimits, now: () => number): Breaker {
  const { breakerFailures: failures, breakerOpenMs, breakerOpenMsMax } = limits;
  return new Breaker({ failures, openMs: breakerOpenMs, openMsMax: breakerOpenMsMax, now });
}

function noPolicy(): never {
  throw new HubError(
    "database_unavailable",
    "This gateway has not received its policy from the registry yet.",
    { retryAfterMs: 1000 },
  );
}
