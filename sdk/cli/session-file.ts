/** Who is logged in, by the server's address: a file that only its owner can read. */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";

export type StoredSession = z.infer<typeof session>;

/** @returns undefined where nobody is logged in, or no longer */
export function readSession(env: NodeJS.ProcessEnv, address: string): StoredSession | undefined {
  const found = readAll(env)[originOf(address)];
  return found && Date.parse(found.expiresAt) > Date.now() ? found : undefined;
}

/** @param kept absent forgets it */
export function writeSession(
  env: NodeJS.ProcessEnv,
  address: string,
  kept: StoredSession | undefined,
): void {
  const { [originOf(address)]: _, ...others } = readAll(env);
  const lasting = Object.entries(others).filter(([, it]) => Date.parse(it.expiresAt) > Date.now());
  const all = { ...Object.fromEntries(lasting), ...(kept && { [originOf(address)]: kept }) };
  const path = pathOf(env);
  if (Object.keys(all).length === 0) {
    rmSync(path, { force: true });
    return;
  }
  mkdirSync(folderOf(env), { recursive: true, mode: 0o700 });
  // Beside it first, so that nobody finds half a file, and never for others to read.
  const beside = `${path}.${process.pid}`;
  writeFileSync(beside, `${JSON.stringify(all, null, 2)}\n`, { mode: 0o600 });
  chmodSync(beside, 0o600);
  renameSync(beside, path);
}

/** What cannot be read is nothing: logging in again mends it. */
function readAll(env: NodeJS.ProcessEnv): Record<string, StoredSession> {
  try {
    return sessions.parse(JSON.parse(readFileSync(pathOf(env), "utf8")));
  } catch {
    return {};
  }
}

const pathOf = (env: NodeJS.ProcessEnv): string => join(folderOf(env), "sessions.json");

function folderOf(env: NodeJS.ProcessEnv): string {
  const chosen = env.SWITCHYARD_CONFIG_DIR || undefined;
  return (
    chosen ?? join(env.XDG_CONFIG_HOME || join(env.HOME || homedir(), ".config"), "switchyard")
  );
}

/** `http://host:port`, whatever path follows. */
const originOf = (address: string): string => new URL(address).origin;

const session = z.object({ token: z.string(), expiresAt: z.string() });
const sessions = z.record(z.string(), session);
