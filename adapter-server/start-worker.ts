/** Starts a worker thread from this package, whether it runs from TypeScript sources or from a build. */
import { fileURLToPath } from "node:url";
import { Worker, type WorkerOptions } from "node:worker_threads";

/**
 * From sources a worker starts without a TypeScript loader, whatever its parent runs under, so a line of
 * JavaScript registers tsx first; a build has the plain file.
 * @param url the worker's file with its `.ts` ending, as `new URL("./x.ts", import.meta.url)`
 */
export function startWorker(url: URL, options: WorkerOptions = {}): Worker {
  if (!import.meta.url.endsWith(".ts")) {
    return new Worker(fileURLToPath(url).replace(/\.ts$/, ".js"), options);
  }
  const tsx = import.meta.resolve("tsx/esm/api");
  const code = `import(${JSON.stringify(tsx)}).then(({ register }) => { register(); return import(${JSON.stringify(url.href)}); })`;
  return new Worker(code, { ...options, eval: true });
}
