/** Where the server is, and the keys to speak to it with. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { UsageError } from "./failure.ts";
import { readSession } from "./session-file.ts";

export type Connection = { baseURL: string; apiKey?: string; adminKey?: string };

/** @throws UsageError when the address is none */
export function findAddress(env: NodeJS.ProcessEnv, url: string | undefined): string {
  const baseURL = url ?? nonEmpty(env.SWITCHYARD_URL) ?? "http://127.0.0.1:8787";
  hostOf(baseURL);
  return baseURL;
}

/**
 * The flag, the environment, then who is logged in at that address, whose session stands for an admin's key, then the
 * keys that a server on this machine wrote into its data folder. Those stay on this machine: they are never sent to
 * another host.
 * @throws UsageError when the address is none
 */
export function findConnection(env: NodeJS.ProcessEnv, url: string | undefined): Connection {
  const baseURL = findAddress(env, url);
  const stored = loopback.has(hostOf(baseURL)) ? readStoredKeys(env) : {};
  const apiKey = nonEmpty(env.SWITCHYARD_API_KEY) ?? stored.apiKey;
  const session = readSession(env, baseURL)?.token;
  const adminKey = nonEmpty(env.SWITCHYARD_ADMIN_KEY) ?? session ?? stored.adminKey;
  return { baseURL, ...(apiKey ? { apiKey } : {}), ...(adminKey ? { adminKey } : {}) };
}

function hostOf(baseURL: string): string {
  try {
    const { hostname, protocol } = new URL(baseURL);
    if (protocol === "http:" || protocol === "https:") return hostname;
  } catch {
    // Told below, as an address with another protocol is.
  }
  throw new UsageError(`'${baseURL}' is no address. Write it like http://127.0.0.1:8787.`);
}

function readStoredKeys(env: NodeJS.ProcessEnv): z.infer<typeof keysFile> {
  const path = join(nonEmpty(env.SWITCHYARD_DATA_DIR) ?? ".switchyard", "keys.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return {};
  }
  try {
    return keysFile.parse(JSON.parse(text));
  } catch {
    throw new UsageError(
      `${path} is not the file of keys that a server writes. Delete it or mend it.`,
    );
  }
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

const loopback = new Set(["127.0.0.1", "localhost", "[::1]"]);
const keysFile = z.object({ adminKey: z.string().optional(), apiKey: z.string().optional() });
