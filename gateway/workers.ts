/** Several processes of one gateway behind one port, and the one that starts them and starts anew whoever dies. */
import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { Logger } from "pino";
import { AggregatorRegistry, type Registry } from "prom-client";

/** The number of the worker that this process is; undefined in the one that starts them, or where there are none. */
export function workerNumber(env: NodeJS.ProcessEnv): number | undefined {
  return cluster.isWorker ? Number(env[numberVariable]) : undefined;
}

export type Workers = {
  /** Ends all of them as a signal would, and waits until they have drained. */
  close(): Promise<void>;
};

/**
 * Starts so many workers of this very program. One that dies is started anew, later and later while it goes on
 * dying, with the same number and so the same folder.
 * @param metricsPort where the sum of all workers' metrics is told; absent tells it nowhere
 */
export function startWorkers({
  count,
  host,
  metricsPort,
  logger,
}: {
  count: number;
  host: string;
  metricsPort: number | undefined;
  logger: Logger;
}): Workers {
  const running = new Map<number, Worker>();
  let closing = false;
  const start = (number: number, failures: number) => {
    const startedAt = Date.now();
    const worker = cluster.fork({ [numberVariable]: String(number) });
    running.set(number, worker);
    worker.once("exit", (code, signal) => {
      running.delete(number);
      if (closing) return;
      const lived = Date.now() - startedAt > restartMsMax;
      const waitMs = Math.min(restartMsMax, restartMs * 2 ** (lived ? 0 : failures));
      logger.error({ worker: number, code, signal, waitMs }, "a worker ended and is started anew");
      setTimeout(() => !closing && start(number, lived ? 1 : failures + 1), waitMs);
    });
  };
  for (let number = 1; number <= count; number++) start(number, 0);
  const metrics = metricsPort === undefined ? undefined : serveMetrics(host, metricsPort);
  return {
    async close() {
      closing = true;
      metrics?.close();
      const ended = [...running.values()].map(async (worker) => {
        worker.process.kill("SIGTERM");
        await once(worker, "exit");
      });
      await Promise.all(ended);
    },
  };
}

/** Has a worker answer when the one that started it asks for its metrics. */
export function tellMetrics(metrics: Registry): void {
  AggregatorRegistry.setRegistries(metrics);
  // It listens from its making on.
  new AggregatorRegistry();
}

/** Each worker counts for itself, and whoever asks the common port meets any one of them. */
function serveMetrics(host: string, port: number): Server {
  const all = new AggregatorRegistry();
  return createServer(async (request, response) => {
    if (request.url !== "/metrics") return response.writeHead(404).end();
    try {
      const text = await all.clusterMetrics();
      return response.writeHead(200, { "content-type": all.contentType }).end(text);
    } catch {
      // A worker that is busy starting or ending does not answer in time.
      return response.writeHead(503).end();
    }
  }).listen(port, host);
}

const numberVariable = "SWITCHYARD_WORKER";
const restartMs = 100;
const restartMsMax = 10_000;
