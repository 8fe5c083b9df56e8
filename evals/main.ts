/** Runs evals alone, over HTTP to a gateway and a registry elsewhere. */
import { join } from "node:path";
import { serve } from "@hono/node-server";
import { pino } from "pino";
import postgres from "postgres";
import type { Fetcher } from "../sdk/protocol/http.ts";
import { readConfig } from "./config.ts";
import { openEvals } from "./open.ts";

const config = readConfig(process.env);
const log = pino({ name: "evals" });
const sql = postgres(config.databaseUrl, { onnotice: () => {} });
const evals = await openEvals({
  sql,
  datasetFolder: join(config.dataDir, "datasets"),
  gateway: remote(config.gatewayUrl),
  registry: remote(config.registryUrl),
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

/** Sends requests that are addressed to this process on to a service elsewhere. */
function remote(baseUrl: string): Fetcher {
  return {
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      return fetch(new Request(new URL(`${pathname}${search}`, baseUrl), request));
    },
  };
}
