/** Registry and ledger of the dialects benchmark, in a process of their own: what they take is not the gateway's. */
import { mkdtemp } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import { serve } from "@hono/node-server";
import pino from "pino";
import postgres from "postgres";
import { withWholeExchanges } from "../../../../deploy/all-in-one/whole-exchanges.ts";
import { openRegistry } from "../../../../registry/registry.ts";
import { formats } from "../wire.ts";

export type Policy = { registryUrl: string; databaseUrl: string; apiKey: string };

const {
  OPERATOR_KEY: operatorKey = "",
  API_KEY: apiKey = "",
  ADMIN_KEY: adminKey = "",
} = process.env;
const database = new PGLiteSocketServer({
  db: withWholeExchanges(await PGlite.create()),
  host: "127.0.0.1",
  port: 0,
  maxConnections: 32,
});
await database.start();
const databaseUrl = `postgres://postgres@${database.getServerConn()}/postgres`;
const registry = await openRegistry({
  sql: postgres(databaseUrl, { max: 2, onnotice: () => {} }),
  dataDir: await mkdtemp(join(tmpdir(), "switchyard-bench-")),
  operatorKey,
  logger: pino({ level: "silent" }),
});
await registry.bootstrap({
  adminKey,
  apiKey,
  // Governed as any other project is, by what is never reached.
  limits: {
    requestsPerMinute: 100_000_000,
    tokensPerMinute: 1_000_000_000_000,
    concurrentRequests: 100_000,
  },
  budget: { limitUsd: "1000000", period: "month" },
});
const upstreams = [...formats, "openai-like"];
await registry.applyDeclared({
  models: upstreams.flatMap((upstream) =>
    ["fast", "paced"].map((pace) => ({
      id: `${upstream}-${pace}`,
      upstream,
      upstreamModel: `bench-${pace}`,
      ownedBy: "bench",
      contextLength: 1_000_000,
    })),
  ),
  prices: upstreams.flatMap((upstream) =>
    ["fast", "paced"].flatMap((pace) =>
      (["input", "output"] as const).map((meter) => ({
        model: `${upstream}-${pace}`,
        meter,
        usdPerToken: "0.0000001",
        source: "bench",
      })),
    ),
  ),
});
const server = serve({ fetch: registry.app.fetch, hostname: "127.0.0.1", port: 0 }, () => {
  const { port } = server.address() as AddressInfo;
  const policy: Policy = { registryUrl: `http://127.0.0.1:${port}`, databaseUrl, apiKey };
  console.log(JSON.stringify(policy));
});
