/** The keys of the first project and the first admin: given by the operator, kept from before, or made now. */
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { generateKey } from "../../registry/keys.ts";
import { StartError } from "../settings/load.ts";

export type FirstKeys = {
  adminKey: string;
  apiKey: string;
  /** Where the keys are kept for the command line; the operator's own keys are kept there as well. */
  path: string;
  /** True when the project's key was made now, which is the only time that it is shown. */
  isNew: boolean;
};

/** A key must be written before the registry knows it: a crash in between then loses nothing. */
export function openFirstKeys(dataDir: string, env: NodeJS.ProcessEnv): FirstKeys {
  const path = join(dataDir, "keys.json");
  const kept = existsSync(path) ? readKept(path) : undefined;
  const keys = {
    adminKey: fromEnv(env, "SWITCHYARD_ADMIN_KEY") ?? kept?.adminKey ?? generateKey("admin"),
    apiKey: fromEnv(env, "SWITCHYARD_API_KEY") ?? kept?.apiKey ?? generateKey("project"),
  };
  if (keys.adminKey === keys.apiKey) {
    throw new StartError(
      "SWITCHYARD_ADMIN_KEY and SWITCHYARD_API_KEY are the same; an admin key runs no inference",
    );
  }
  const temporary = `${path}.new`;
  writeFileSync(temporary, `${JSON.stringify(keys, null, 2)}\n`, { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
  return { ...keys, path, isNew: kept === undefined && !env.SWITCHYARD_API_KEY };
}

function fromEnv(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const key = env[name];
  if (!key) return undefined;
  if (!/^[\x21-\x7e]{16,256}$/.test(key)) {
    throw new StartError(`${name} must have 16 to 256 printable characters without spaces`);
  }
  return key;
}

function readKept(path: string): z.infer<typeof keptKeys> {
  const parsed = keptKeys.safeParse(safeJson(readFileSync(path, "utf8")));
  if (parsed.success) return parsed.data;
  throw new StartError(
    `${path} cannot be read as keys. Remove it to have new ones made; the old keep working until they are revoked.`,
  );
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const keptKeys = z.object({ adminKey: z.string().min(16), apiKey: z.string().min(16) });
