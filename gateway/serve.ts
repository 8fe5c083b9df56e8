/** Serves the gateway from this process: registry, evals and upstreams are addresses in the environment. */
import type { Logger } from "pino";
import postgres from "postgres";
import type { Registry } from "prom-client";
import { remoteFetcher } from "../sdk/protocol/http.ts";
import type { GatewayEnvironment } from "./config.ts";
import { createDashboard } from "./dashboard/dashboard.ts";
import { openRanges } from "./http/address-ranges.ts";
import { createHttpServer } from "./http/server.ts";
import { openGateway } from "./open-gateway.ts";

export type ServingGateway = {
  metrics: Registry;
  /** Takes no new connections, drains, and lets go of everything. */
  close(): Promise<void>;
};

/** @param dataDir this process's own */
export async function serveGateway(
  env: GatewayEnvironment,
  { dataDir, logger }: { dataDir: string; logger: Logger },
): Promise<ServingGateway> {
  const sql = postgres(env.DATABASE_URL, { onnotice: () => {} });
  const dashboard = createDashboard();
  const gateway = await openGateway({
    sql,
    dataDir,
    upstreams: env.SWITCHYARD_UPSTREAMS,
    registry: remoteFetcher(env.SWITCHYARD_REGISTRY_URL),
    operatorKey: env.SWITCHYARD_OPERATOR_KEY,
    redisUrl: env.REDIS_URL,
    budgetAlertUrl: env.SWITCHYARD_BUDGET_ALERT_URL,
    contentLogKey: env.CONTENT_LOG_KEY,
    evals: env.SWITCHYARD_EVALS_URL ? remoteFetcher(env.SWITCHYARD_EVALS_URL) : undefined,
    signIn: env.SWITCHYARD_SIGN_IN,
    limits: env.SWITCHYARD_LIMITS,
    meteringLimits: env.SWITCHYARD_METERING,
    dashboard: { fetch: async (request) => dashboard.fetch(request) },
    logger,
  });
  await gateway.start();
  const server = createHttpServer(gateway.app.fetch, env.SWITCHYARD_LIMITS, {
    upgrade: gateway.upgrade,
    trustedProxies: openRanges(env.TRUSTED_PROXIES),
  });
  server.listen(env.PORT, env.HOST, () => {
    logger.info({ address: server.address() }, "the gateway serves");
  });
  return {
    metrics: gateway.metrics,
    async close() {
      server.close();
      await gateway.stop();
      await sql.end({ timeout: 5 });
      server.closeAllConnections();
    },
  };
}
