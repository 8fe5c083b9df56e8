/** From an `Authorization` header to who is asking, by the hash of the key. */
import { timingSafeEqual } from "node:crypto";
import { eq } from "drizzle-orm";
import { HubError } from "../sdk/protocol/errors.ts";
import { type KeyId, type ProjectId, projectId as projectIdSchema } from "../sdk/protocol/ids.ts";
import type { Database } from "./db.ts";
import { hashKey } from "./keys.ts";
import { apiKeys, projects } from "./schema.ts";

/** An operator is another service of this installation; it may do what an admin may, and more. */
export type Caller =
  | { type: "operator" }
  | { type: "admin"; keyId: KeyId }
  | { type: "project"; keyId: KeyId; projectId: ProjectId };

export type IdentityParts = { db: Database; operatorKey: string; now: () => number };

/**
 * @throws HubError `missing_api_key`, `invalid_api_key`, and `permission_denied` for a key whose
 *   project is archived
 */
export async function identify(request: Request, parts: IdentityParts): Promise<Caller> {
  const key = /^Bearer +(\S+) *$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (key === undefined) {
    throw new HubError(
      "missing_api_key",
      "You didn't provide an API key. Send it in the header 'Authorization: Bearer YOUR_KEY'.",
    );
  }
  const hash = hashKey(key);
  if (timingSafeEqual(Buffer.from(hash), Buffer.from(hashKey(parts.operatorKey)))) {
    return { type: "operator" };
  }
  // The database compares hashes, so its timing tells nothing about keys.
  const [row] = await parts.db
    .select({ key: apiKeys, archived: projects.archived })
    .from(apiKeys)
    .leftJoin(projects, eq(projects.id, apiKeys.projectId))
    .where(eq(apiKeys.hash, hash));
  const expired = row?.key.expiresAt && row.key.expiresAt.getTime() <= parts.now();
  if (!row || row.key.revokedAt !== null || expired) {
    throw new HubError(
      "invalid_api_key",
      expired ? "This API key has expired." : "Incorrect API key provided.",
    );
  }
  const { id: keyId, role, projectId } = row.key;
  if (role === "admin") return { type: "admin", keyId };
  if (projectId === null || row.archived === null) {
    throw new HubError("invalid_api_key", "This API key belongs to no project.");
  }
  if (row.archived) {
    throw new HubError("permission_denied", "The project of this API key is archived.");
  }
  return { type: "project", keyId, projectId };
}

/** What events name as the one who changed something. */
export function actorOf(caller: Caller): string {
  return caller.type === "operator" ? "operator" : caller.keyId;
}

/** @throws HubError `permission_denied` for a project's key */
export function requireAdmin(caller: Caller): void {
  if (caller.type === "project") {
    throw new HubError("permission_denied", "Only an admin key may do this.");
  }
}

/** @throws HubError `permission_denied` for all but services of this installation */
export function requireOperator(caller: Caller): void {
  if (caller.type !== "operator") {
    throw new HubError("permission_denied", "Only services of this installation may ask for this.");
  }
}

/** The one project whose things the caller may see; undefined for all. */
export function visibleProject(caller: Caller): ProjectId | undefined {
  return caller.type === "project" ? caller.projectId : undefined;
}

/** Foreign things do not exist: the same answer as for an id that was never given. */
export function notFound(kind: string, id: string): HubError {
  return new HubError("not_found", `There is no ${kind} '${id.slice(0, 200)}'.`);
}

/** @throws HubError `not_found` when the thing belongs to another project than the caller's key */
export function requireVisible(caller: Caller, kind: string, id: string, owner: string): void {
  if (caller.type === "project" && caller.projectId !== owner) throw notFound(kind, id);
}

/** The project that a request names, or for a project's key its own; another's does not exist for it. */
export function readProject(caller: Caller, asked: string | undefined): ProjectId | undefined {
  if (asked === undefined) return visibleProject(caller);
  const parsed = projectIdSchema.safeParse(asked);
  if (!parsed.success) throw notFound("project", asked);
  requireVisible(caller, "project", asked, parsed.data);
  return parsed.data;
}
