/** Adapters as others see them: with all versions and with where each alias points. */
import { and, asc, eq, gt, inArray, or } from "drizzle-orm";
import type { AdapterVersionOfBase } from "../../sdk/protocol/admin.ts";
import type { Adapter } from "../../sdk/protocol/catalog.ts";
import {
  type AdapterId,
  adapterId as adapterIdSchema,
  type ProjectId,
  sha256,
} from "../../sdk/protocol/ids.ts";
import type { Queryable } from "../db.ts";
import type { Page } from "../http/list.ts";
import { notFound } from "../identity.ts";
import { toVersion } from "../rows.ts";
import { adapters, adapterVersions, aliases } from "../schema.ts";

/** Which adapters are asked for. `visibleTo` keeps a project's own and the shared ones. */
export type AdapterFilter = {
  visibleTo?: ProjectId | undefined;
  projectId?: ProjectId | undefined;
};

/** @throws HubError `not_found`, also for an adapter that the project may not see */
export async function getAdapter(
  db: Queryable,
  id: string,
  visibleTo: ProjectId | undefined,
): Promise<Adapter> {
  const parsed = adapterIdSchema.safeParse(id);
  const rows = parsed.success
    ? await db.select().from(adapters).where(eq(adapters.id, parsed.data))
    : [];
  const [adapter] = await withVersions(db, rows);
  const isVisible =
    visibleTo === undefined || adapter?.projectId === visibleTo || adapter?.shared === true;
  if (!adapter || !isVisible) throw notFound("adapter", id);
  return adapter;
}

export async function findAdapter(
  db: Queryable,
  name: { projectId: ProjectId; base: string; name: string },
): Promise<Adapter | undefined> {
  const rows = await db
    .select()
    .from(adapters)
    .where(
      and(
        eq(adapters.projectId, name.projectId),
        eq(adapters.base, name.base),
        eq(adapters.name, name.name),
      ),
    );
  return (await withVersions(db, rows))[0];
}

export async function listAdapters(
  db: Queryable,
  { visibleTo, projectId }: AdapterFilter,
  page: Page,
): Promise<Adapter[]> {
  const rows = await db
    .select()
    .from(adapters)
    .where(
      and(
        visibleTo && or(eq(adapters.projectId, visibleTo), eq(adapters.shared, true)),
        projectId && eq(adapters.projectId, projectId),
        page.after === undefined ? undefined : gt(adapters.id, page.after as AdapterId),
      ),
    )
    .orderBy(asc(adapters.id))
    .limit(page.limit + 1);
  return withVersions(db, rows);
}

/** Every adapter, for the snapshot. */
export async function allAdapters(db: Queryable): Promise<Adapter[]> {
  return withVersions(db, await db.select().from(adapters).orderBy(asc(adapters.id)));
}

/**
 * A version by its content's digest, whichever adapter it belongs to.
 * @param base only over this base; the same files may fit two bases
 * @throws HubError `not_found`
 */
export async function getVersionByDigest(
  db: Queryable,
  digest: string,
  base: string | undefined,
): Promise<AdapterVersionOfBase> {
  const parsed = sha256.safeParse(digest);
  const [row] = parsed.success
    ? await db
        .select({ version: adapterVersions, base: adapters.base })
        .from(adapterVersions)
        .innerJoin(adapters, eq(adapters.id, adapterVersions.adapterId))
        .where(
          and(
            eq(adapterVersions.digest, parsed.data),
            base === undefined ? undefined : eq(adapters.base, base),
          ),
        )
        .orderBy(asc(adapterVersions.createdAt), asc(adapterVersions.adapterId))
        .limit(1)
    : [];
  if (!row) throw notFound("adapter version", digest);
  return { ...toVersion(row.version), base: row.base };
}

async function withVersions(
  db: Queryable,
  rows: readonly (typeof adapters.$inferSelect)[],
): Promise<Adapter[]> {
  const ids = rows.map((row) => row.id);
  if (ids.length === 0) return [];
  const versions = await db
    .select()
    .from(adapterVersions)
    .where(inArray(adapterVersions.adapterId, ids))
    .orderBy(asc(adapterVersions.adapterId), asc(adapterVersions.version));
  const pointers = await db.select().from(aliases).where(inArray(aliases.adapterId, ids));
  const versionsOf = groupByAdapter(versions);
  const pointersOf = groupByAdapter(pointers);
  return rows.map((row) => ({
    ...row,
    createdAt: row.createdAt.toISOString(),
    versions: (versionsOf.get(row.id) ?? []).map(toVersion),
    aliases: Object.fromEntries(
      (pointersOf.get(row.id) ?? []).map(({ alias, version }) => [alias, version]),
    ),
  }));
}

function groupByAdapter<Row extends { adapterId: AdapterId }>(
  rows: readonly Row[],
): Map<AdapterId, Row[]> {
  const groups = new Map<AdapterId, Row[]>();
  for (const row of rows) {
    const group = groups.get(row.adapterId);
    if (group) group.push(row);
    else groups.set(row.adapterId, [row]);
  }
  return groups;
}
