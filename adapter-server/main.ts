/** The adapter-server alone: `MODEL=folder npx tsx adapter-server/main.ts`. */
import { readFile } from "node:fs/promises";
import pino from "pino";
import { HubError } from "../sdk/protocol/errors.ts";
import { type Config, readConfig } from "./config.ts";
import { isEncoderFolder } from "./encoder/import-encoder.ts";
import { createEncoderServer } from "./encoder/server.ts";
import { listen } from "./listen.ts";
import { type AdapterSource, folderSource, registrySource } from "./lora/adapter-source.ts";
import { type AdapterServer, createAdapterServer } from "./server.ts";

const log = pino();

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const server = await openServer(config);
  const listener = listen(server.app, config, (port) =>
    log.info({ model: config.model.id }, `listening on http://${config.host}:${port}`),
  );

  // Requests under way may end; a second signal, or the time limit, ends them.
  let stopping = false;
  const stop = () => {
    if (stopping) void server.close().then(() => process.exit(1));
    stopping = true;
    // A connection whose request ends now would else be kept for the next one, which it will not get.
    if ("keepAliveTimeout" in listener) listener.keepAliveTimeout = 1;
    const late = setTimeout(() => void server.close(), drainMsMax);
    listener.close(() => {
      clearTimeout(late);
      void server.close().then(() => process.exit(0));
    });
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}

/** An encoder is served alone; everything else decodes. */
async function openServer(
  config: Config,
): Promise<Pick<AdapterServer, "app"> & { close(): Promise<void> }> {
  const version = await ownVersion();
  const onFault = (message: string, err: unknown) => log.error({ err }, message);
  if (await isEncoderFolder(config.model.folder)) {
    const { matryoshka } = config.embeddings;
    return createEncoderServer({ ...config, matryoshka, version, onFault });
  }
  return createAdapterServer({
    ...config,
    source: await openSource(config),
    version,
    onFault,
    onAdapterEvent: (event) => log.info(event, "adapter"),
  });
}

/** Without a registry, weights by digest are looked for where weights by name are. */
async function openSource(config: Config): Promise<AdapterSource> {
  const { registryUrl, operatorKey, adapterFolders, limits } = config;
  if (registryUrl === undefined || operatorKey === undefined) {
    return folderSource(adapterFolders, limits.adapterFileBytesMax);
  }
  return registrySource({
    registry: { fetch: (request) => fetch(request) },
    origin: registryUrl.replace(/\/$/, ""),
    operatorKey,
    fileBytesMax: limits.adapterFileBytesMax,
  });
}

async function ownVersion(): Promise<string> {
  for (const path of ["../package.json", "../../package.json"]) {
    const text = await readFile(new URL(path, import.meta.url), "utf8").catch(() => undefined);
    if (text !== undefined) return JSON.parse(text).version;
  }
  return "unknown";
}

const drainMsMax = 30_000;

main().catch((error: unknown) => {
  if (error instanceof HubError) log.fatal({ code: error.code, param: error.param }, error.message);
  else log.fatal({ err: error }, "the adapter-server could not start");
  process.exit(1);
});
