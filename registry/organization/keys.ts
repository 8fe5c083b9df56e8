/** Keys as OpenAI's admin API lists them: of a project with their owners, and those of admins. Revoked ones are gone. */
import { and, asc, eq, gt, inArray, isNull } from "drizzle-orm";
import type { KeyId, ServiceAccountId, UserId } from "../../sdk/protocol/ids.ts";
import { findKey } from "../api-keys.ts";
import type { Change } from "../change.ts";
import type { Queryable } from "../db.ts";
import type { Page } from "../http/list.ts";
import { notFound } from "../identity.ts";
import { getProject } from "../projects.ts";
import { apiKeys, serviceAccounts, users } from "../schema.ts";
import { type Owner, toProjectKey } from "./shapes.ts";

type KeyRow = typeof apiKeys.$inferSelect;

/** @throws HubError `not_found` for the project */
export async function listProjectKeys(db: Queryable, project: string, page: Page) {
  const { id } = await getProject(db, project);
  const rows = await listActive(db, eq(apiKeys.projectId, id), page);
  const owners = await ownersOf(db, rows);
  return rows.map((row) => toProjectKey(row, owners.get(row.ownerId ?? "")));
}

/** @throws HubError `not_found`, for a key of another project as well */
export async function getProjectKey(db: Queryable, project: string, id: string) {
  const row = await findProjectKey(db, project, id);
  return toProjectKey(row, (await ownersOf(db, [row])).get(row.ownerId ?? ""));
}

/** @throws HubError as `getProjectKey` */
export async function findProjectKey(db: Queryable, project: string, id: string): Promise<KeyRow> {
  const { id: projectId } = await getProject(db, project);
  const row = await findKey(db, id);
  if (row.projectId !== projectId || row.revokedAt !== null) throw notFound("API key", id);
  return row;
}

/** Counts from now. */
export async function setExpiry(
  { tx, at, record }: Change,
  row: KeyRow,
  expiresInSeconds: number,
): Promise<void> {
  const expiresAt = new Date(at.getTime() + expiresInSeconds * 1000);
  await tx.update(apiKeys).set({ expiresAt }).where(eq(apiKeys.id, row.id));
  await record({
    type: "key.updated",
    subject: row.id,
    projectId: row.projectId,
    detail: { expiresAt: expiresAt.toISOString() },
  });
}

export async function listAdminKeys(db: Queryable, page: Page): Promise<KeyRow[]> {
  return listActive(db, eq(apiKeys.role, "admin"), page);
}

/** @throws HubError `not_found` */
export async function getAdminKey(db: Queryable, id: string): Promise<KeyRow> {
  const row = await findKey(db, id);
  if (row.role !== "admin" || row.revokedAt !== null) throw notFound("admin API key", id);
  return row;
}

function listActive(db: Queryable, which: ReturnType<typeof eq>, page: Page): Promise<KeyRow[]> {
  return db
    .select()
    .from(apiKeys)
    .where(
      and(
        which,
        isNull(apiKeys.revokedAt),
        page.after === undefined ? undefined : gt(apiKeys.id, page.after as KeyId),
      ),
    )
    .orderBy(asc(apiKeys.id))
    .limit(page.limit + 1);
}

async function ownersOf(db: Queryable, rows: readonly KeyRow[]): Promise<Map<string, Owner>> {
  const ids = [...new Set(rows.flatMap(({ ownerId }) => ownerId ?? []))];
  if (ids.length === 0) return new Map();
  const accounts = await db
    .select()
    .from(serviceAccounts)
    .where(inArray(serviceAccounts.id, ids as ServiceAccountId[]));
  const people = await db
    .select()
    .from(users)
    .where(inArray(users.id, ids as UserId[]));
  return new Map([...accounts, ...people].map((owner) => [owner.id, owner]));
}
