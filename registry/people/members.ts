/** Who may use a project with keys of their own, and who sees to that. */
import { and, asc, eq, gt, inArray } from "drizzle-orm";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { ProjectId, UserId } from "../../sdk/protocol/ids.ts";
import { revokeKeysOf } from "../api-keys.ts";
import type { Change } from "../change.ts";
import type { Queryable } from "../db.ts";
import type { Page } from "../http/list.ts";
import { notFound } from "../identity.ts";
import { getProject } from "../projects.ts";
import { projectMembers, projects, users } from "../schema.ts";
import { getUser, type User } from "./users.ts";

export type ProjectRole = "member" | "owner";
export type Member = { user: User; role: ProjectRole; addedAt: Date };
export type Membership = { id: ProjectId; name: string; role: ProjectRole };

/** Of each person the projects that they are a member of, archived ones left out. */
export async function membershipsOf(
  db: Queryable,
  people: readonly UserId[],
): Promise<ReadonlyMap<UserId, Membership[]>> {
  const found = new Map<UserId, Membership[]>(people.map((id) => [id, []]));
  if (people.length === 0) return found;
  const rows = await db
    .select({
      userId: projectMembers.userId,
      id: projects.id,
      name: projects.name,
      role: projectMembers.role,
    })
    .from(projectMembers)
    .innerJoin(projects, eq(projects.id, projectMembers.projectId))
    .where(and(inArray(projectMembers.userId, [...people]), eq(projects.archived, false)))
    .orderBy(asc(projects.id));
  for (const { userId, ...membership } of rows) found.get(userId)?.push(membership);
  return found;
}

/** @throws HubError `not_found` for the project */
export async function listMembers(db: Queryable, project: string, page: Page): Promise<Member[]> {
  const { id } = await getProject(db, project);
  return db
    .select({ user: users, role: projectMembers.role, addedAt: projectMembers.addedAt })
    .from(projectMembers)
    .innerJoin(users, eq(users.id, projectMembers.userId))
    .where(
      and(
        eq(projectMembers.projectId, id),
        page.after === undefined ? undefined : gt(users.id, page.after as UserId),
      ),
    )
    .orderBy(asc(users.id))
    .limit(page.limit + 1);
}

/** @throws HubError `not_found` for the project, and for a person who is no member of it */
export async function getMember(db: Queryable, project: string, person: string): Promise<Member> {
  const { id } = await getProject(db, project);
  const user = await getUser(db, person);
  const [row] = await db
    .select()
    .from(projectMembers)
    .where(and(eq(projectMembers.projectId, id), eq(projectMembers.userId, user.id)));
  if (!row) throw notFound("user", person);
  return { user, role: row.role, addedAt: row.addedAt };
}

/** Makes a person a member, or gives a member another role. @throws HubError `not_found` */
export async function setMember(
  change: Change,
  project: string,
  { user, role }: { user: User; role: ProjectRole },
): Promise<Member> {
  const { tx, at, record } = change;
  const { id: projectId } = await getProject(tx, project);
  const of = and(eq(projectMembers.projectId, projectId), eq(projectMembers.userId, user.id));
  const [before] = await tx.select().from(projectMembers).where(of);
  if (before?.role === role) return { user, role, addedAt: before.addedAt };
  if (before) await tx.update(projectMembers).set({ role }).where(of);
  else await tx.insert(projectMembers).values({ projectId, userId: user.id, role, addedAt: at });
  await record({
    type: before ? "project_user.updated" : "project_user.added",
    subject: user.id,
    projectId,
    detail: { role },
  });
  return { user, role, addedAt: before?.addedAt ?? at };
}

/** Their keys of that project end with it. @throws HubError `not_found` */
export async function removeMember(change: Change, project: string, person: string): Promise<void> {
  const { tx, record } = change;
  const { id: projectId } = await getProject(tx, project);
  const { user } = await getMember(tx, project, person);
  await revokeKeysOf(change, user.id, projectId);
  await tx
    .delete(projectMembers)
    .where(and(eq(projectMembers.projectId, projectId), eq(projectMembers.userId, user.id)));
  await record({ type: "project_user.deleted", subject: user.id, projectId });
}

/**
 * An address that the provider did not vouch for is anybody's to claim, and so finds nobody.
 * @throws HubError `not_found` for an address of nobody, `invalid_value` for one that several people have
 */
export async function personByEmail(db: Queryable, email: string): Promise<User> {
  const found = await db
    .select()
    .from(users)
    .where(and(eq(users.email, email), eq(users.emailVerified, true)))
    .limit(2);
  if (found[1]) {
    throw new HubError(
      "invalid_value",
      `Several people have the address '${email}'. Give the id.`,
      {
        param: "email",
      },
    );
  }
  if (!found[0]) {
    throw new HubError(
      "not_found",
      `There is no user whose provider vouches for the address '${email.slice(0, 200)}'. Give the id.`,
      { param: "email" },
    );
  }
  return found[0];
}
