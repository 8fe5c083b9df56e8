/** Runs evals alone, over HTTP to a gateway and a registry elsewhere. */
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { pino } from "pino";
import postgres from "postgres";
import { remoteFetcher } from "../sdk/protocol/http.ts";
import { readConfig } from "./config.ts";
import { openEvals } from "./open.ts";

const config = readConfig(process.env);
const log = pino({ name: "evals" });
const sql = postgres(config.databaseUrl, { onnotice: () => {} });
const evals = await openEvals({
  sql,
  datasetFolder: join(config.dataDir, "datasets"),
  gateway: remoteFetcher(config.gatewayUrl),
  registry: remoteFetcher(config.registryUrl),
  log,
});
const server = serve({ fetch: evals.app.fetch, hostname: config.host, port: config.port }, (at) =>
  log.info({ host: at.address, port: at.port }, "evals listens"),
);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void stop());

async function stop(): Promise<void> {
  server.close();
  await evals.close();
  await sql.end({ timeout: 5 });
}
