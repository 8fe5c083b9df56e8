/** The registry alone: `DATABASE_URL`, `SWITCHYARD_DATA_DIR`, `SWITCHYARD_OPERATOR_KEY`, `HOST`, `PORT`; see `config.ts`. */
import { serve } from "@hono/node-server";
import pino from "pino";
import postgres from "postgres";
import { readEnvironment } from "./config.ts";
import { openRegistry } from "./registry.ts";

const env = readEnvironment(process.env);
const logger = pino({ name: "registry", level: env.SWITCHYARD_LOG_LEVEL });
const sql = postgres(env.DATABASE_URL, {
  max: env.DATABASE_CONNECTIONS_MAX,
  connect_timeout: 5,
  onnotice: () => {},
});
const registry = await openRegistry({
  sql,
  dataDir: env.SWITCHYARD_DATA_DIR,
  operatorKey: env.SWITCHYARD_OPERATOR_KEY,
  logger,
});
// Alone it makes no keys of its own, because there is nobody to show them to: the operator brings them.
if (env.SWITCHYARD_ADMIN_KEY !== undefined && env.SWITCHYARD_API_KEY !== undefined) {
  await registry.bootstrap({ adminKey: env.SWITCHYARD_ADMIN_KEY, apiKey: env.SWITCHYARD_API_KEY });
}

const server = serve(
  { fetch: registry.app.fetch, hostname: env.HOST, port: env.PORT },
  ({ address, port }) => logger.info({ address, port }, "the registry is ready"),
);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    server.close(async () => {
      await sql.end({ timeout: 5 });
    });
  });
}
