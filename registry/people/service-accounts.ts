/** Service accounts: the programs of a project, each with keys that end with it. */
import { and, asc, eq, gt } from "drizzle-orm";
import { newId, type ServiceAccountId, serviceAccountId } from "../../sdk/protocol/ids.ts";
import { revokeKeysOf } from "../api-keys.ts";
import type { Change } from "../change.ts";
import type { Queryable } from "../db.ts";
import type { Page } from "../http/list.ts";
import { notFound } from "../identity.ts";
import { getProject } from "../projects.ts";
import { serviceAccounts } from "../schema.ts";

export type ServiceAccount = typeof serviceAccounts.$inferSelect;

/** @throws HubError `not_found` for the project */
export async function createServiceAccount(
  { tx, at, record }: Change,
  project: string,
  { name }: { name: string },
): Promise<ServiceAccount> {
  const { id: projectId } = await getProject(tx, project);
  const row = {
    id: newId("svc", at.getTime()),
    projectId,
    name,
    role: "member",
    createdAt: at,
  } as const;
  await tx.insert(serviceAccounts).values(row);
  await record({
    type: "service_account.created",
    subject: row.id,
    projectId,
    detail: { name, role: row.role },
  });
  return row;
}

/** @throws HubError `not_found` for an account of another project */
export async function getServiceAccount(
  db: Queryable,
  project: string,
  id: string,
): Promise<ServiceAccount> {
  const { id: projectId } = await getProject(db, project);
  const parsed = serviceAccountId.safeParse(id);
  const [row] = parsed.success
    ? await db
        .select()
        .from(serviceAccounts)
        .where(and(eq(serviceAccounts.id, parsed.data), eq(serviceAccounts.projectId, projectId)))
    : [];
  if (!row) throw notFound("service account", id);
  return row;
}

export async function listServiceAccounts(
  db: Queryable,
  project: string,
  page: Page,
): Promise<ServiceAccount[]> {
  const { id: projectId } = await getProject(db, project);
  return db
    .select()
    .from(serviceAccounts)
    .where(
      and(
        eq(serviceAccounts.projectId, projectId),
        page.after === undefined
          ? undefined
          : gt(serviceAccounts.id, page.after as ServiceAccountId),
      ),
    )
    .orderBy(asc(serviceAccounts.id))
    .limit(page.limit + 1);
}

export async function updateServiceAccount(
  change: Change,
  account: ServiceAccount,
  {
    name = account.name,
    role = account.role,
  }: { name?: string | undefined; role?: ServiceAccount["role"] | undefined },
): Promise<ServiceAccount> {
  const changed = { ...account, name, role };
  if (name === account.name && role === account.role) return account;
  await change.tx
    .update(serviceAccounts)
    .set({ name, role })
    .where(eq(serviceAccounts.id, account.id));
  await change.record({
    type: "service_account.updated",
    subject: account.id,
    projectId: account.projectId,
    detail: { name, role },
  });
  return changed;
}

/** Its keys are unknown from then on. */
export async function deleteServiceAccount(change: Change, account: ServiceAccount): Promise<void> {
  await revokeKeysOf(change, account.id);
  await change.tx.delete(serviceAccounts).where(eq(serviceAccounts.id, account.id));
  await change.record({
    type: "service_account.deleted",
    subject: account.id,
    projectId: account.projectId,
    detail: { name: account.name },
  });
}
