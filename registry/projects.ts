/** Projects: the tenants that own keys, adapters, routes and evidence. */
import { and, asc, eq, gt } from "drizzle-orm";
import type { z } from "zod";
import type {
  createProject as createSchema,
  updateProject as updateSchema,
} from "../sdk/protocol/admin.ts";
import type { Project } from "../sdk/protocol/catalog.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import { newId, type ProjectId, projectId as projectIdSchema } from "../sdk/protocol/ids.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { notFound } from "./identity.ts";
import { refuseBadPatterns } from "./patterns.ts";
import { toProject } from "./rows.ts";
import { sameJson } from "./same-json.ts";
import { projects } from "./schema.ts";

/** @throws HubError `already_exists` for a name that is taken, `invalid_value` for a guardrail's pattern */
export async function createProject(
  { tx, at, record }: Change,
  input: z.infer<typeof createSchema>,
): Promise<Project> {
  refuseBadPatterns(input.guardrails);
  await refuseTakenName(tx, input.name);
  const id = newId("proj", at.getTime());
  const [row] = await tx
    .insert(projects)
    .values({ ...input, id, createdAt: at })
    .returning();
  if (!row) throw new Error("the insert returned no row");
  await record({ type: "project.created", subject: id, projectId: id, detail: { ...input } });
  return toProject(row);
}

/** Absent fields stay; nothing is recorded when nothing changes. @throws HubError `not_found`, `already_exists` */
export async function updateProject(
  { tx, record }: Change,
  id: string,
  input: z.infer<typeof updateSchema> & Pick<Project, "spendAlerts">,
): Promise<Project> {
  refuseBadPatterns(input.guardrails);
  const before = await getProject(tx, id);
  if (input.name !== undefined && input.name !== before.name) await refuseTakenName(tx, input.name);
  const changed = Object.fromEntries(
    Object.entries(input).filter(
      ([field, value]) =>
        value !== undefined && !sameJson(value, before[field as keyof Project] ?? null),
    ),
  );
  if (Object.keys(changed).length === 0) return before;
  await tx.update(projects).set(changed).where(eq(projects.id, before.id));
  await record({
    type: "project.updated",
    subject: before.id,
    projectId: before.id,
    detail: changed,
  });
  return getProject(tx, id);
}

/** Its keys are refused from then on. Archiving it again changes nothing. @throws HubError `not_found` */
export async function archiveProject({ tx, at, record }: Change, id: string): Promise<void> {
  const { id: projectId, archived } = await findProject(tx, id);
  if (archived) return;
  await tx
    .update(projects)
    .set({ archived: true, archivedAt: at })
    .where(eq(projects.id, projectId));
  await record({ type: "project.archived", subject: projectId, projectId });
}

/** @throws HubError `not_found`, also for text that is no id */
export async function getProject(db: Queryable, id: string): Promise<Project> {
  return toProject(await findProject(db, id));
}

/** The row itself. @throws HubError as `getProject` */
export async function findProject(
  db: Queryable,
  id: string,
): Promise<typeof projects.$inferSelect> {
  const parsed = projectIdSchema.safeParse(id);
  const [row] = parsed.success
    ? await db.select().from(projects).where(eq(projects.id, parsed.data))
    : [];
  if (!row) throw notFound("project", id);
  return row;
}

/** @param only the one project that the caller may see */
export async function listProjects(
  db: Queryable,
  only: ProjectId | undefined,
  page: Page,
): Promise<Project[]> {
  const rows = await db
    .select()
    .from(projects)
    .where(
      and(
        only && eq(projects.id, only),
        page.after === undefined ? undefined : gt(projects.id, page.after as ProjectId),
      ),
    )
    .orderBy(asc(projects.id))
    .limit(page.limit + 1);
  return rows.map(toProject);
}

async function refuseTakenName(db: Queryable, name: string): Promise<void> {
  const [taken] = await db.select().from(projects).where(eq(projects.name, name));
  if (taken) {
    throw new HubError("already_exists", `There already is a project named '${name}'.`, {
      param: "name",
    });
  }
}
