/** Runs the gateway alone: registry, evals and upstreams are addresses in the environment. */
import postgres from "postgres";
import { remoteFetcher } from "../sdk/protocol/http.ts";
import { readEnvironment } from "./config.ts";
import { createDashboard } from "./dashboard/dashboard.ts";
import { createHttpServer } from "./http/server.ts";
import { createLogger } from "./logger.ts";
import { openGateway } from "./open-gateway.ts";

const env = readEnvironment(process.env);
const logger = createLogger(env.SWITCHYARD_LOG_LEVEL);
const sql = postgres(env.DATABASE_URL, { onnotice: () => {} });
const dashboard = createDashboard();
const gateway = await openGateway({
  sql,
  dataDir: env.SWITCHYARD_DATA_DIR,
  upstreams: env.SWITCHYARD_UPSTREAMS,
  registry: remoteFetcher(env.SWITCHYARD_REGISTRY_URL),
  operatorKey: env.SWITCHYARD_OPERATOR_KEY,
  redisUrl: env.REDIS_URL,
  evals: env.SWITCHYARD_EVALS_URL ? remoteFetcher(env.SWITCHYARD_EVALS_URL) : undefined,
  limits: env.SWITCHYARD_LIMITS,
  meteringLimits: env.SWITCHYARD_METERING,
  dashboard: { fetch: async (request) => dashboard.fetch(request) },
  logger,
});
await gateway.start();

const server = createHttpServer(gateway.app.fetch);
server.listen(env.PORT, env.HOST, () => {
  logger.info({ address: server.address() }, "the gateway serves");
});

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, async () => {
    if (stopping) return;
    stopping = true;
    server.close();
    await gateway.stop();
    await sql.end({ timeout: 5 });
    server.closeAllConnections();
  });
}
