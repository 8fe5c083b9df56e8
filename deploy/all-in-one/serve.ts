/** Opens the door at once, so that a port in use is told first, and brings up the parts behind it. */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { pino } from "pino";
import { z } from "zod";
import { trustedProxies } from "../../gateway/config.ts";
import { type AddressRanges, openRanges } from "../../gateway/http/address-ranges.ts";
import { createHttpServer, type ServerLimits, writeRefusal } from "../../gateway/http/server.ts";
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";
import { loadSettings, StartError } from "../settings/load.ts";
import { openDataFolder } from "./data-folder.ts";
import { type FirstKeys, openFirstKeys } from "./first-keys.ts";
import { openSwitchyard, type Switchyard } from "./switchyard.ts";

export type Serving = {
  url: string;
  keys: FirstKeys;
  /** A model to try: the embedded base, else the first of the settings. */
  model: string | undefined;
  /** Whether that model answers in this process, and so for nothing. */
  isEmbedded: boolean;
  fetch: Switchyard["fetch"];
  /** Takes no new connections, drains, and stops the parts. */
  close(): Promise<void>;
};

/** Somebody asked the start to end; a shell knows why by the exit code. */
export class StartStopped extends Error {
  override readonly name = "StartStopped";
  readonly exitCode: number;

  constructor(exitCode: number) {
    super("stopped before it was ready");
    this.exitCode = exitCode;
  }
}

/**
 * Serves Switchyard as the environment and the settings say.
 * @param signal  ends the start after the step that is under way, all opened parts closed
 * @throws StartError for what an operator can mend; the signal's reason
 */
export async function serve(
  env: NodeJS.ProcessEnv,
  onProgress: (what: string) => void,
  signal: AbortSignal = new AbortController().signal,
): Promise<Serving> {
  const level = env.SWITCHYARD_LOG_LEVEL || "warn";
  const logger = pino({ level, base: null }, pino.destination(2));
  const loaded = loadSettings(env);
  const { host, port, embedded, models } = loaded.settings;
  const dataDir = resolve(env.SWITCHYARD_DATA_DIR || ".switchyard");
  const folder = await openDataFolder(dataDir);

  let server: Server | undefined;
  let behind: Pick<Switchyard, "fetch" | "upgrade"> = starting;
  try {
    const limits = loaded.settings.gateway;
    const front: typeof behind = {
      fetch: (request) => behind.fetch(request),
      upgrade: (...asked) => behind.upgrade(...asked),
    };
    server = await listen(front, {
      host,
      port,
      limits,
      proxies: openRanges(proxiesOf(env)),
    });
    const keys = openFirstKeys(dataDir, env);
    const switchyard = await openSwitchyard({
      loaded,
      dataDir,
      keys,
      env,
      logger,
      onProgress,
      signal,
    });
    behind = switchyard;
    return {
      url: urlOf(server, host),
      keys,
      model: embedded?.id ?? models[0]?.id,
      isEmbedded: embedded !== null,
      fetch: switchyard.fetch,
      close: async () => {
        server?.close();
        await switchyard.close();
        server?.closeAllConnections();
        await folder.release();
      },
    };
  } catch (error) {
    server?.close();
    server?.closeAllConnections();
    await folder.release();
    throw error;
  }
}

/** What answers until all parts are there. */
const starting: Pick<Switchyard, "fetch" | "upgrade"> = {
  fetch: async () => toErrorResponse(isStarting()),
  upgrade: (_, socket) => void writeRefusal(socket, isStarting()),
};

function isStarting(): HubError {
  return new HubError("server_is_overloaded", "Switchyard is starting.", { retryAfterMs: 1000 });
}

function listen(
  { fetch, upgrade }: Pick<Switchyard, "fetch" | "upgrade">,
  {
    host,
    port,
    limits,
    proxies,
  }: { host: string; port: number; limits: ServerLimits; proxies: AddressRanges },
): Promise<Server> {
  const server = createHttpServer(fetch, limits, { upgrade, trustedProxies: proxies });
  return new Promise((resolvePromise, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(cannotListen(error, host, port)));
    server.listen(port, host, () => resolvePromise(server));
  });
}

function proxiesOf({ TRUSTED_PROXIES }: NodeJS.ProcessEnv): string[] {
  const parsed = trustedProxies.safeParse(TRUSTED_PROXIES);
  if (parsed.success) return parsed.data;
  throw new StartError(`TRUSTED_PROXIES: ${z.prettifyError(parsed.error)}`);
}

function urlOf(server: Server, host: string): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${(server.address() as AddressInfo).port}`;
}

function cannotListen(error: NodeJS.ErrnoException, host: string, port: number): Error {
  if (error.code === "EADDRINUSE") {
    return new StartError(
      `port ${port} on ${host} is in use. Stop what listens there, or set PORT to another.`,
    );
  }
  if (error.code === "EACCES") {
    return new StartError(
      `port ${port} may not be opened by this user. Set PORT to one above 1023.`,
    );
  }
  return new StartError(
    `cannot listen on ${host}:${port}: ${error.message}. HOST and PORT say where to listen.`,
    {
      cause: error,
    },
  );
}
