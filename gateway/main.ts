/** Runs the gateway alone, in one process or in as many as `WORKERS` says. */
import { join } from "node:path";
import { readEnvironment } from "./config.ts";
import { boundHeapGrowth } from "./heap-growth.ts";
import { createLogger } from "./logger.ts";
import { serveGateway } from "./serve.ts";
import { startWorkers, tellMetrics, workerNumber } from "./workers.ts";

boundHeapGrowth();
const env = readEnvironment(process.env);
const logger = createLogger(env.SWITCHYARD_LOG_LEVEL, env.SWITCHYARD_LIMITS.logBytesMax);
const { close } = await run();

async function run(): Promise<{ close(): Promise<void> }> {
  const number = workerNumber(process.env);
  if (number === undefined && env.WORKERS > 1) {
    return startWorkers({
      count: env.WORKERS,
      host: env.HOST,
      metricsPort: env.METRICS_PORT,
      logger,
    });
  }
  // Each process has a spool and a snapshot of its own.
  const dataDir =
    number === undefined
      ? env.SWITCHYARD_DATA_DIR
      : join(env.SWITCHYARD_DATA_DIR, `worker-${number}`);
  const serving = await serveGateway(env, { dataDir, logger });
  if (number !== undefined) tellMetrics(serving.metrics);
  return serving;
}

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, async () => {
    if (stopping) return;
    stopping = true;
    await close();
    // A worker's channel to the one that started it would keep it.
    process.disconnect?.();
  });
}
