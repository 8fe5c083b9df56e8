/** People, as their OpenID provider introduced them. */
import { and, asc, eq, gt, inArray, max } from "drizzle-orm";
import { type UserId, userId } from "../../sdk/protocol/ids.ts";
import type { Role } from "../../sdk/protocol/roles.ts";
import { revokeKeysOf } from "../api-keys.ts";
import type { Change } from "../change.ts";
import type { Queryable } from "../db.ts";
import type { Page } from "../http/list.ts";
import { notFound } from "../identity.ts";
import { apiKeys, sessions, users } from "../schema.ts";

export type User = typeof users.$inferSelect;

/** @throws HubError `not_found` */
export async function getUser(db: Queryable, id: string): Promise<User> {
  const parsed = userId.safeParse(id);
  const [row] = parsed.success
    ? await db.select().from(users).where(eq(users.id, parsed.data))
    : [];
  if (!row) throw notFound("user", id);
  return row;
}

/** @param emails only people with one of these; empty is all */
export async function listUsers(
  db: Queryable,
  emails: readonly string[],
  page: Page,
): Promise<User[]> {
  return db
    .select()
    .from(users)
    .where(
      and(
        emails.length === 0 ? undefined : inArray(users.email, [...emails]),
        page.after === undefined ? undefined : gt(users.id, page.after as UserId),
      ),
    )
    .orderBy(asc(users.id))
    .limit(page.limit + 1);
}

/** The role is kept from then on, whatever the provider tells. @throws HubError `not_found` */
export async function giveRole(change: Change, id: string, role: Role): Promise<User> {
  const user = await getUser(change.tx, id);
  if (user.role === role && user.roleKept) return user;
  await change.tx.update(users).set({ role, roleKept: true }).where(eq(users.id, user.id));
  await change.record({
    type: "user.updated",
    subject: user.id,
    projectId: null,
    detail: { role },
  });
  return { ...user, role, roleKept: true };
}

/**
 * Who is disabled may not log in, is logged in no longer, and their keys are refused; enabled again, the keys that
 * were not revoked go on.
 * @throws HubError `not_found`
 */
export async function setEnabled(change: Change, id: string, enabled: boolean): Promise<User> {
  const { tx, at, record } = change;
  const user = await getUser(tx, id);
  if (enabled === (user.disabledAt === null)) return user;
  const disabledAt = enabled ? null : at;
  await tx.update(users).set({ disabledAt }).where(eq(users.id, user.id));
  if (!enabled) await tx.delete(sessions).where(eq(sessions.userId, user.id));
  await tx.update(apiKeys).set({ suspendedAt: disabledAt }).where(eq(apiKeys.ownerId, user.id));
  await record({
    type: "user.updated",
    subject: user.id,
    projectId: null,
    detail: { enabled },
  });
  return { ...user, disabledAt };
}

/** When any of the keys of each was used last. */
export async function lastKeyUse(
  db: Queryable,
  people: readonly UserId[],
): Promise<ReadonlyMap<string, Date>> {
  if (people.length === 0) return new Map();
  const rows = await db
    .select({ id: apiKeys.ownerId, at: max(apiKeys.lastUsedAt) })
    .from(apiKeys)
    .where(inArray(apiKeys.ownerId, [...people]))
    .groupBy(apiKeys.ownerId);
  return new Map(rows.flatMap(({ id, at }) => (id !== null && at !== null ? [[id, at]] : [])));
}

/** Ends the person's sessions and keys. Who may come back is the provider's to say. @throws HubError `not_found` */
export async function deleteUser(change: Change, id: string): Promise<User> {
  const user = await getUser(change.tx, id);
  await revokeKeysOf(change, user.id);
  await change.tx.delete(users).where(eq(users.id, user.id));
  const detail = { ...(user.email !== null && { email: user.email }) };
  await change.record({ type: "user.deleted", subject: user.id, projectId: null, detail });
  return user;
}
