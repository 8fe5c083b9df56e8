/** An adapter-server of the demo model for tests: in this process, behind a socket, with its worker threads at hand. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Worker } from "node:worker_threads";
import type { ServerType } from "@hono/node-server";
import { serverLimits } from "../../adapter-server/config.ts";
import { listen } from "../../adapter-server/listen.ts";
import {
  digestOfFiles,
  folderSource,
  readAdapterFolder,
} from "../../adapter-server/lora/adapter-source.ts";
import {
  type AdapterServer,
  type AdapterServerOptions,
  createAdapterServer,
} from "../../adapter-server/server.ts";

const demoModel = fileURLToPath(new URL("../../deploy/demo-model/", import.meta.url));
export const demoAdapters = join(demoModel, "adapters");
export const baseId = "support-tiny";
export const operatorKey = "operator-key-of-the-test";

export type TestServer = AdapterServer & {
  url: string;
  /** Threads that it has started, in order; those that ended are among them. */
  workers: readonly Worker[];
  /** What it reported as its own failures. */
  faults: { message: string; cause: unknown }[];
  post(path: string, body: object, options?: PostOptions): Promise<Response>;
  close(): Promise<void>;
};

type PostOptions = {
  key?: string | undefined;
  signal?: AbortSignal;
  headers?: Record<string, string>;
};

/** @param options what differs from a small server with the demo's adapters by name and by digest */
export async function openTestServer(
  options: Partial<AdapterServerOptions> = {},
): Promise<TestServer> {
  const ownDir = options.dataDir === undefined;
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), "adapter-server-")));
  const workers: Worker[] = [];
  const faults: TestServer["faults"] = [];
  const onWorker = (worker: Worker) => workers.push(worker);
  process.on("worker", onWorker);
  const server = await createAdapterServer({
    model: { id: baseId, folder: join(demoModel, "base") },
    format: "f32",
    dataDir,
    operatorKey,
    adapterFolders: [demoAdapters],
    source: await folderSource([demoAdapters], 1 << 30),
    threads: 2,
    version: "test",
    onFault: (message, cause) => faults.push({ message, cause }),
    ...options,
  });
  const host = "127.0.0.1";
  const limits = serverLimits.parse({ ...options.limits });
  const { listener, port } = await new Promise<{ listener: ServerType; port: number }>(
    (resolve) => {
      const listener = listen(server.app, { host, port: 0, limits }, (port) =>
        resolve({ listener, port }),
      );
    },
  );
  const url = `http://${host}:${port}`;
  return {
    ...server,
    url,
    workers,
    faults,
    post: (path, body, { key = operatorKey, signal, headers = {} } = {}) =>
      fetch(`${url}${path}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          ...(key !== "" && { authorization: `Bearer ${key}` }),
          ...headers,
        },
        body: JSON.stringify(body),
        ...(signal && { signal }),
      }),
    async close() {
      process.off("worker", onWorker);
      listener.close();
      if ("closeAllConnections" in listener) listener.closeAllConnections();
      await server.close();
      if (ownDir) await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** By the demo's name of it. */
export async function demoDigest(name: string): Promise<string> {
  return digestOfFiles(await readAdapterFolder(join(demoAdapters, name), 1 << 30));
}

export const userSays = (content: string) => [{ role: "user" as const, content }];
