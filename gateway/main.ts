/** Runs the gateway alone: registry, evals and upstreams are addresses in the environment. */
import postgres from "postgres";
import { z } from "zod";
import { readEnvironment } from "./config.ts";
import { remoteFetcher } from "./http/forward.ts";
import { createHttpServer } from "./http/server.ts";
import { createLogger } from "./logger.ts";
import { openGateway } from "./open-gateway.ts";
import { upstreamSettings } from "./providers/settings.ts";

const env = readEnvironment(process.env);
const logger = createLogger(env.SWITCHYARD_LOG_LEVEL);
const sql = postgres(env.DATABASE_URL, { onnotice: () => {} });
const gateway = await openGateway({
  sql,
  dataDir: env.SWITCHYARD_DATA_DIR,
  upstreams: z.array(upstreamSettings).parse(JSON.parse(env.SWITCHYARD_UPSTREAMS)),
  registry: remoteFetcher(env.SWITCHYARD_REGISTRY_URL),
  operatorKey: env.SWITCHYARD_OPERATOR_KEY,
  redisUrl: env.REDIS_URL,
  evals: env.SWITCHYARD_EVALS_URL ? remoteFetcher(env.SWITCHYARD_EVALS_URL) : undefined,
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
