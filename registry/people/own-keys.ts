/** Keys that people make for themselves, in projects that they are members of, and that end with them. */
import { and, asc, count, eq, gt, inArray, isNull, or } from "drizzle-orm";
import type { z } from "zod";
import type {
  CreatedKey,
  createOwnKey as createSchema,
  KeyInfo,
  rotateKey as rotateSchema,
} from "../../sdk/protocol/admin.ts";
import { ownKeysDefault } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { KeyId } from "../../sdk/protocol/ids.ts";
import { createKey, findKey, revokeKey, rotateKey, toKeyInfo } from "../api-keys.ts";
import type { Change } from "../change.ts";
import type { RegistryLimits } from "../config.ts";
import type { Queryable } from "../db.ts";
import type { Page } from "../http/list.ts";
import { type Caller, notFound } from "../identity.ts";
import { getOrganization } from "../organization.ts";
import { getProject } from "../projects.ts";
import { apiKeys, events, projectMembers } from "../schema.ts";
import { withinCeiling } from "./ceiling.ts";
import type { User } from "./users.ts";

/** @throws HubError `permission_denied` for whoever is no person */
export function requirePerson(caller: Caller): User {
  if (caller.type === "user") return caller.user;
  throw new HubError(
    "permission_denied",
    "Keys of one's own are for people who are logged in. Administrators make keys at /api/keys.",
  );
}

/** Those that are not revoked. */
export async function listOwnKeys(db: Queryable, user: User, page: Page): Promise<KeyInfo[]> {
  const rows = await db
    .select()
    .from(apiKeys)
    .where(
      and(
        eq(apiKeys.ownerId, user.id),
        isNull(apiKeys.revokedAt),
        page.after === undefined ? undefined : gt(apiKeys.id, page.after as KeyId),
      ),
    )
    .orderBy(asc(apiKeys.id))
    .limit(page.limit + 1);
  return rows.map(toKeyInfo);
}

/**
 * @throws HubError `not_found` for the project, `permission_denied` for one that the person is no member of and for what
 *   goes beyond the project's ceiling, `rate_limit_exceeded`
 */
export async function createOwnKey(
  change: Change,
  user: User,
  asked: z.infer<typeof createSchema>,
  limits: RegistryLimits,
): Promise<CreatedKey> {
  const { tx, at } = change;
  await refuseTooMany(change, user, limits);
  const project = await getProject(tx, asked.projectId);
  const { id: projectId, name } = project;
  const of = and(eq(projectMembers.projectId, projectId), eq(projectMembers.userId, user.id));
  const [member] = await tx.select().from(projectMembers).where(of);
  if (!member) {
    throw new HubError(
      "permission_denied",
      `You are no member of the project '${name}'. One of its owners or an administrator can make you one.`,
    );
  }
  if (project.archived) {
    throw new HubError("permission_denied", `The project '${name}' is archived.`);
  }
  const ceiling = project.ownKeys ?? (await getOrganization(tx)).ownKeys ?? ownKeysDefault;
  const wanted = withinCeiling(asked, ceiling);
  const [held] = await tx
    .select({ count: count() })
    .from(apiKeys)
    .where(
      and(
        eq(apiKeys.ownerId, user.id),
        eq(apiKeys.projectId, projectId),
        isNull(apiKeys.revokedAt),
        or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, at)),
      ),
    );
  if ((held?.count ?? 0) >= ceiling.keysMax) {
    throw new HubError(
      "permission_denied",
      `You have ${held?.count ?? 0} keys in the project '${name}', and may have ${ceiling.keysMax}. Revoke one first.`,
    );
  }
  return createKey(change, wanted, undefined, user.id);
}

/**
 * When the key ends stays as it is.
 * @throws HubError `not_found` for a key of somebody else, `invalid_value` for one that has ended, `rate_limit_exceeded`
 */
export async function rotateOwnKey(
  change: Change,
  { user, id }: { user: User; id: string },
  body: z.infer<typeof rotateSchema>,
  limits: RegistryLimits,
): Promise<CreatedKey> {
  const key = await findOwnKey(change.tx, user, id);
  await refuseTooMany(change, user, limits);
  return rotateKey(change, key.id, body, limits);
}

/** Each key leaves a row and wakes every gateway. Revoking is never refused: nobody revokes more than they made. */
async function refuseTooMany(
  { tx, at }: Change,
  { id }: User,
  { ownKeyChangesPerHour }: RegistryLimits,
): Promise<void> {
  const lately = and(
    eq(events.actor, id),
    gt(events.at, new Date(at.getTime() - 3_600_000)),
    inArray(events.type, ["key.created", "key.rotated"]),
  );
  const [made] = await tx.select({ count: count() }).from(events).where(lately);
  if ((made?.count ?? 0) < ownKeyChangesPerHour) return;
  throw new HubError(
    "rate_limit_exceeded",
    `You made and rotated ${made?.count} keys within an hour, and may ${ownKeyChangesPerHour}. Try again later.`,
    { retryAfterMs: 60_000 },
  );
}

/** @throws HubError `not_found` for a key of somebody else */
export async function revokeOwnKey(change: Change, user: User, id: string): Promise<KeyInfo> {
  return revokeKey(change, (await findOwnKey(change.tx, user, id)).id);
}

async function findOwnKey(db: Queryable, user: User, id: string) {
  const row = await findKey(db, id);
  if (row.ownerId !== user.id) throw notFound("API key", id);
  return row;
}
