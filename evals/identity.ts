/** Who calls: the bearer key, and what the registry says of it. */
import type { Whoami } from "../sdk/protocol/admin.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import type { ProjectId } from "../sdk/protocol/ids.ts";
import type { RegistryClient } from "./registry-client.ts";

export type Caller = Whoami & { key: string };

/** @throws HubError `missing_api_key`, or the registry's `invalid_api_key` */
export async function identify(registry: RegistryClient, headers: Headers): Promise<Caller> {
  const [, key] = /^Bearer\s+(\S+)$/i.exec(headers.get("authorization") ?? "") ?? [];
  if (key === undefined) {
    throw new HubError(
      "missing_api_key",
      "No API key was sent. Send it as 'Authorization: Bearer sk-sy-...'.",
    );
  }
  return { ...(await registry.whoami(key)), key };
}

/** The one project whose things a caller sees; `undefined` for admins and operators, who see all. */
export function visibleProject(caller: Caller): ProjectId | undefined {
  if (caller.role !== "project") return undefined;
  if (caller.projectId === undefined) {
    throw new HubError("permission_denied", "This key belongs to no project.");
  }
  return caller.projectId;
}
