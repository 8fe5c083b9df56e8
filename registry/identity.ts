/** From an `Authorization` header to who is asking, by the hash of the key. */
import { timingSafeEqual } from "node:crypto";
import { eq, or } from "drizzle-orm";
import { LRUCache } from "lru-cache";
import { HubError } from "../sdk/protocol/errors.ts";
import { type KeyId, type ProjectId, projectId as projectIdSchema } from "../sdk/protocol/ids.ts";
import { mayCall, sessionPrefix } from "../sdk/protocol/roles.ts";
import { clientAddressHeader, contentLogHeader, vouchingHeader } from "../sdk/protocol/vouched.ts";
import { noteKeysUsed } from "./api-keys.ts";
import type { ChangeLog } from "./change.ts";
import type { Database, Queryable } from "./db.ts";
import { hashKey } from "./keys.ts";
import { membershipsOf } from "./people/members.ts";
import { type Person, personOf } from "./people/sessions.ts";
import { apiKeys, projects, users } from "./schema.ts";

/** An operator is another service of this installation; it may do what an admin may, and more. */
export type Caller =
  | { type: "operator" }
  | { type: "admin"; keyId: KeyId }
  | ({ type: "user" } & Person)
  | { type: "project"; keyId: KeyId; projectId: ProjectId };

export type IdentityParts = {
  db: Database;
  operatorKey: string;
  unknownKeys: UnknownKeys;
  now: () => number;
};

/** Hashes of keys that nobody has. @see unknownKeysOf */
export type UnknownKeys = Pick<LRUCache<string, true>, "has" | "set" | "clear">;

/**
 * So that a wrong key that is sent over and over is looked up twice a second at most. A key that is made here meanwhile
 * is known at once, one that another process makes after half a second.
 */
export function unknownKeysOf({ max, changes }: { max: number; changes: ChangeLog }): UnknownKeys {
  const unknown = new LRUCache<string, true>({ max, ttl: unknownMs });
  changes.onChange(() => unknown.clear());
  return unknown;
}

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
  if (key.startsWith(sessionPrefix)) return identifyPerson(key, request, parts);
  const hash = hashKey(key);
  if (isSame(key, parts.operatorKey)) {
    return { type: "operator" };
  }
  if (parts.unknownKeys.has(hash)) throw incorrectKey();
  // The database compares hashes, so its timing tells nothing about keys.
  const [row] = await parts.db
    .select({ key: apiKeys, archived: projects.archived })
    .from(apiKeys)
    .leftJoin(projects, eq(projects.id, apiKeys.projectId))
    .where(or(eq(apiKeys.hash, hash), eq(apiKeys.previousHash, hash)));
  const endsAt = row?.key.hash === hash ? row.key.expiresAt : row?.key.previousUntil;
  const expired = [endsAt, row?.key.expiresAt].some((at) => at && at.getTime() <= parts.now());
  if (!row) {
    parts.unknownKeys.set(hash, true);
    throw incorrectKey();
  }
  if (expired) throw new HubError("invalid_api_key", "This API key has expired.");
  if (row.key.revokedAt !== null || row.key.suspendedAt !== null) throw incorrectKey();
  const { id: keyId, role, projectId } = row.key;
  await noteUse(row.key, parts);
  if (role === "admin") return { type: "admin", keyId };
  if (projectId === null || row.archived === null) {
    throw new HubError("invalid_api_key", "This API key belongs to no project.");
  }
  if (row.archived) {
    throw new HubError("permission_denied", "The project of this API key is archived.");
  }
  return { type: "project", keyId, projectId };
}

function incorrectKey(): HubError {
  return new HubError("invalid_api_key", "Incorrect API key provided.");
}

/** Once a minute for each key; gateways tell of the keys that they let in themselves. */
async function noteUse(
  { id, lastUsedAt }: { id: KeyId; lastUsedAt: Date | null },
  { db, now }: IdentityParts,
): Promise<void> {
  const nowMs = now();
  if (lastUsedAt !== null && nowMs - lastUsedAt.getTime() < 60_000) return;
  // What a key may do does not hang on this.
  const keys = [{ id, at: new Date(nowMs).toISOString() }];
  await noteKeysUsed(db, { keys }).catch(() => {});
}

/** What a person may not do by the table of roles is refused here, whatever the address would do. */
async function identifyPerson(
  token: string,
  request: Request,
  parts: IdentityParts,
): Promise<Caller> {
  const person = await personOf(parts, token, parts.now());
  if (!person) throw sessionEnded();
  requireMayCall(person, request);
  return { type: "user", ...person };
}

function requireMayCall({ user: { role }, projects }: Person, { method, url }: Request): void {
  if (mayCall({ role, projects }, method, new URL(url).pathname)) return;
  throw new HubError("permission_denied", `Your role '${role}' does not allow this.`);
}

function sessionEnded(): HubError {
  return new HubError("invalid_api_key", "This session has ended. Log in again.");
}

/**
 * Within the transaction of a change: that its caller may still make it.
 * @throws HubError `invalid_api_key` for a person or a key that was ended since the request began, `permission_denied`
 *   for a person whose role became another
 */
export async function requireStill(db: Queryable, caller: Caller, request: Request): Promise<void> {
  if (caller.type === "operator") return;
  if (caller.type !== "user") {
    const [key] = await db.select().from(apiKeys).where(eq(apiKeys.id, caller.keyId));
    if (!key || key.revokedAt !== null || key.suspendedAt !== null) throw incorrectKey();
    return;
  }
  const { id, role } = caller.user;
  const [user] = await db.select().from(users).where(eq(users.id, id));
  if (!user || user.disabledAt !== null) throw sessionEnded();
  if (user.role !== role) {
    throw new HubError("permission_denied", `Your role is '${user.role}' now. Try again.`);
  }
  requireMayCall({ user, projects: (await membershipsOf(db, [id])).get(id) ?? [] }, request);
}

/** Where the request came from: what a gateway of this installation says, and nobody else. */
export function clientAddress(request: Request, operatorKey: string): string | undefined {
  if (!isVouched(request, operatorKey)) return undefined;
  return request.headers.get(clientAddressHeader)?.slice(0, 64);
}

/**
 * A consent that nothing could be sealed by would be kept by nobody, or worse, in the clear: only a gateway that has a
 * key passes one on.
 * @throws HubError `invalid_value`
 */
export function requireContentKey(request: Request, operatorKey: string): void {
  const { headers } = request;
  if (isVouched(request, operatorKey) && headers.get(contentLogHeader) === "sealed") return;
  throw new HubError(
    "invalid_value",
    "Nothing can be kept of prompts and answers here: this gateway has no key to seal them with. Set CONTENT_LOG_KEY to 32 random bytes in base64 and start it again.",
    { param: "contentLog" },
  );
}

function isVouched({ headers }: Request, operatorKey: string): boolean {
  const vouching = headers.get(vouchingHeader);
  return vouching !== null && isSame(vouching, operatorKey);
}

/** Takes as long whatever the texts are. */
function isSame(text: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(hashKey(text)), Buffer.from(hashKey(other)));
}

/** What events name as the one who changed something. */
export function actorOf(caller: Caller): string {
  switch (caller.type) {
    case "operator":
      return "operator";
    case "user":
      return caller.user.id;
    default:
      return caller.keyId;
  }
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

const unknownMs = 500;
