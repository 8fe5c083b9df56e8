/** Invitations: whoever logs in with an address that the provider vouches for takes the one that waits for it. */
import { and, asc, count, eq, gt, inArray, isNull } from "drizzle-orm";
import type { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type InviteId, inviteId, newId, type ProjectId } from "../../sdk/protocol/ids.ts";
import type { createInvite as createSchema } from "../../sdk/protocol/organization.ts";
import type { Role } from "../../sdk/protocol/roles.ts";
import type { Change } from "../change.ts";
import type { Queryable } from "../db.ts";
import type { Page } from "../http/list.ts";
import { type Caller, notFound } from "../identity.ts";
import { getProject } from "../projects.ts";
import { invites, projects } from "../schema.ts";
import { setMember } from "./members.ts";
import type { User } from "./users.ts";

export type Invite = typeof invites.$inferSelect;

/**
 * @throws HubError `not_found` for a project, `already_exists` while one waits for that address, `invalid_value` where
 *   too many wait
 */
export async function createInvite(
  { tx, at, record }: Change,
  { email: given, role, projects: asked = [] }: z.infer<typeof createSchema>,
  { days, pendingMax }: { days: number; pendingMax: number },
): Promise<Invite> {
  const email = given.toLowerCase();
  if (await pendingOf(tx, email, at)) {
    throw new HubError("already_exists", `An invitation waits for '${email}' already.`, {
      param: "email",
    });
  }
  const [waiting] = await tx.select({ count: count() }).from(invites).where(isPending(at));
  if ((waiting?.count ?? 0) >= pendingMax) {
    throw new HubError(
      "invalid_value",
      `${pendingMax} invitations wait to be taken. Delete some of them first.`,
    );
  }
  const members: Invite["projects"] = [];
  for (const { id, role } of asked) members.push({ id: (await getProject(tx, id)).id, role });
  const row: Invite = {
    id: newId("invite", at.getTime()),
    email,
    role,
    projects: members,
    createdAt: at,
    expiresAt: new Date(at.getTime() + days * dayMs),
    acceptedAt: null,
  };
  await tx.insert(invites).values(row);
  await record({
    type: "invite.sent",
    subject: row.id,
    projectId: null,
    detail: { email, role, projects: members },
  });
  return row;
}

/** @throws HubError `permission_denied` for somebody who would make others more than they are themselves */
export function requireMayInvite(caller: Caller, role: Role): void {
  const isGreat = role === "owner" || role === "admin";
  if (caller.type !== "user" || caller.user.role === "owner" || !isGreat) return;
  throw new HubError("permission_denied", `Only owners may invite somebody as '${role}'.`, {
    param: "role",
  });
}

/** @throws HubError `not_found` */
export async function getInvite(db: Queryable, id: string): Promise<Invite> {
  const parsed = inviteId.safeParse(id);
  const [row] = parsed.success
    ? await db.select().from(invites).where(eq(invites.id, parsed.data))
    : [];
  if (!row) throw notFound("invite", id);
  return row;
}

export async function listInvites(db: Queryable, page: Page): Promise<Invite[]> {
  return db
    .select()
    .from(invites)
    .where(page.after === undefined ? undefined : gt(invites.id, page.after as InviteId))
    .orderBy(asc(invites.id))
    .limit(page.limit + 1);
}

/** @throws HubError `not_found`, `invalid_value` for one that was taken */
export async function deleteInvite({ tx, record }: Change, id: string): Promise<void> {
  const row = await getInvite(tx, id);
  if (row.acceptedAt !== null) {
    throw new HubError("invalid_value", "This invitation was taken. Delete the person instead.");
  }
  await tx.delete(invites).where(eq(invites.id, row.id));
  await record({
    type: "invite.deleted",
    subject: row.id,
    projectId: null,
    detail: { email: row.email },
  });
}

/** The invitation that waits for this address. */
export async function pendingOf(
  db: Queryable,
  email: string,
  at: Date,
): Promise<Invite | undefined> {
  const [row] = await db
    .select()
    .from(invites)
    .where(and(eq(invites.email, email.toLowerCase()), isPending(at)));
  return row;
}

/** Makes the person a member of the invitation's projects, as far as they are still there. */
export async function takeInvite(change: Change, invite: Invite, user: User): Promise<void> {
  const { tx, at, record } = change;
  await tx.update(invites).set({ acceptedAt: at }).where(eq(invites.id, invite.id));
  await record({
    type: "invite.accepted",
    subject: invite.id,
    projectId: null,
    detail: { email: invite.email },
  });
  for (const { id, role } of await stillThere(tx, invite.projects)) {
    await setMember(change, id, { user, role });
  }
}

async function stillThere(db: Queryable, wanted: Invite["projects"]): Promise<Invite["projects"]> {
  const ids: ProjectId[] = wanted.map(({ id }) => id);
  if (ids.length === 0) return [];
  const found = await db
    .select({ id: projects.id })
    .from(projects)
    .where(and(inArray(projects.id, ids), eq(projects.archived, false)));
  return wanted.filter(({ id }) => found.some((it) => it.id === id));
}

function isPending(at: Date) {
  return and(isNull(invites.acceptedAt), gt(invites.expiresAt, at));
}

const dayMs = 86_400_000;
