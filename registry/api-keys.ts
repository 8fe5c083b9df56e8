/** API keys as rows: made, listed, revoked. The key itself leaves this file once and is never kept. */
import { and, asc, eq, gt, isNull, or, sql } from "drizzle-orm";
import type { z } from "zod";
import type {
  CreatedKey,
  createKey as createSchema,
  KeyInfo,
  KeysUsed,
  rotateKey as rotateSchema,
} from "../sdk/protocol/admin.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import {
  type KeyId,
  keyId as keyIdSchema,
  newId,
  type ProjectId,
  projectId as projectIdSchema,
  type ServiceAccountId,
  type Sha256,
  type UserId,
} from "../sdk/protocol/ids.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { notFound } from "./identity.ts";
import { generateKey, hashKey, isGenerated, redactKey } from "./keys.ts";
import { namesOfOwners } from "./people/owner-names.ts";
import { getProject } from "./projects.ts";
import { toApiKey } from "./rows.ts";
import { apiKeys } from "./schema.ts";

/**
 * @param chosen  a key that the operator chose; absent makes a new one
 * @param ownerId whose key it is, beside the project's
 * @throws HubError `missing_required_parameter`, `invalid_value`, `not_found` for the project,
 *   `already_exists` for a key that is in use
 */
export async function createKey(
  { tx, at, record }: Change,
  input: z.infer<typeof createSchema>,
  chosen?: string,
  ownerId?: UserId | ServiceAccountId,
): Promise<CreatedKey> {
  const key = chosen ?? generateKey(input.role);
  const { expiresInSeconds, projectId, scopes, costCentre, tags, ...rest } = input;
  if (rest.role === "admin" && projectId !== undefined) {
    throw new HubError("invalid_value", "An admin key belongs to no project.", {
      param: "projectId",
    });
  }
  if (rest.role === "project") {
    if (projectId === undefined) {
      throw new HubError("missing_required_parameter", "A project's key needs 'projectId'.", {
        param: "projectId",
      });
    }
    await getProject(tx, projectId);
  }
  const hash = hashKey(key);
  const [taken] = await tx.select().from(apiKeys).where(everHad(hash));
  if (taken) throw new HubError("already_exists", "This key is already in use.");
  const [row] = await tx
    .insert(apiKeys)
    .values({
      ...rest,
      id: newId("key", at.getTime()),
      hash,
      redacted: chosen === undefined || isGenerated(chosen) ? redactKey(key) : null,
      ownerId: ownerId ?? null,
      projectId: projectId ?? null,
      scopes: scopes ?? null,
      costCentre: costCentre ?? null,
      tags: tags ?? null,
      createdAt: at,
      expiresAt:
        expiresInSeconds === undefined ? null : new Date(at.getTime() + expiresInSeconds * 1000),
    })
    .returning();
  if (!row) throw new Error("the insert returned no row");
  const info = toKeyInfo(row);
  const { name, role, expiresAt } = info;
  await record({
    type: "key.created",
    subject: row.id,
    projectId: row.projectId,
    detail: { name, role, ...(expiresAt === undefined ? {} : { expiresAt }) },
  });
  return { ...info, key };
}

/**
 * Gives a key a new text. The old one goes on for a while, and both are the same key: its budget, limits and reports
 * stay one. Rotating again ends what was left of the text before.
 * @throws HubError `not_found`, `invalid_value` for a key that is revoked or has expired
 */
export async function rotateKey(
  { tx, at, record }: Change,
  id: string,
  { overlapSeconds }: z.infer<typeof rotateSchema>,
  { retiredHashesMax }: { retiredHashesMax: number },
): Promise<CreatedKey> {
  const row = await findKey(tx, id);
  if (row.revokedAt !== null || (row.expiresAt !== null && row.expiresAt <= at)) {
    throw new HubError("invalid_value", `The key '${row.id}' has ended. Make a new one.`);
  }
  const key = generateKey(row.role);
  const until = overlapSeconds === 0 ? null : new Date(at.getTime() + overlapSeconds * 1000);
  const change = {
    hash: hashKey(key),
    redacted: redactKey(key),
    previousHash: until && row.hash,
    previousUntil: until,
    retiredHashes: remembered([...row.retiredHashes, row.hash], retiredHashesMax),
  };
  await tx.update(apiKeys).set(change).where(eq(apiKeys.id, row.id));
  await record({
    type: "key.rotated",
    subject: row.id,
    projectId: row.projectId,
    detail: until ? { previousUntil: until.toISOString() } : {},
  });
  return { ...toKeyInfo({ ...row, ...change }), key };
}

/** The first text, which settings may still have because an operator chose it, and the newest of the others. */
function remembered([first, ...others]: readonly Sha256[], max: number): Sha256[] {
  return first === undefined ? [] : [first, ...others.slice(Math.max(0, others.length - max + 1))];
}

/** From now on the key is unknown. Revoking it again changes nothing. @throws HubError `not_found` */
export async function revokeKey({ tx, at, record }: Change, id: string): Promise<KeyInfo> {
  const row = await findKey(tx, id);
  if (row.revokedAt !== null) return toKeyInfo(row);
  await tx.update(apiKeys).set({ revokedAt: at }).where(eq(apiKeys.id, row.id));
  await record({ type: "key.revoked", subject: row.id, projectId: row.projectId });
  return toKeyInfo({ ...row, revokedAt: at });
}

/** Revokes all keys of a person or a service account. @param projectId only those in this project */
export async function revokeKeysOf(
  change: Change,
  ownerId: UserId | ServiceAccountId,
  projectId?: ProjectId,
): Promise<void> {
  const rows = await change.tx
    .select({ id: apiKeys.id })
    .from(apiKeys)
    .where(
      and(
        eq(apiKeys.ownerId, ownerId),
        isNull(apiKeys.revokedAt),
        projectId && eq(apiKeys.projectId, projectId),
      ),
    );
  for (const { id } of rows) await revokeKey(change, id);
}

/**
 * Writes down when keys were used, of each once a minute at most. No change of the registry: no event, no new snapshot.
 * What is not known is passed over.
 */
export async function noteKeysUsed(db: Queryable, { keys }: KeysUsed): Promise<void> {
  await db.execute(sql`
    update ${apiKeys} set last_used_at = used.at
    from jsonb_to_recordset(${JSON.stringify(keys)}::text::jsonb) as used (id text, at timestamptz)
    where ${apiKeys.id} = used.id
      and (last_used_at is null or last_used_at <= used.at - interval '1 minute')`);
}

/** @throws HubError for a `projectId` that is no id */
export async function listKeys(
  db: Queryable,
  projectId: string | undefined,
  page: Page,
): Promise<KeyInfo[]> {
  const project = projectId === undefined ? undefined : projectIdSchema.safeParse(projectId);
  if (project && !project.success) throw notFound("project", projectId ?? "");
  const rows = await db
    .select()
    .from(apiKeys)
    .where(
      and(
        project && eq(apiKeys.projectId, project.data),
        page.after === undefined ? undefined : gt(apiKeys.id, page.after as KeyId),
      ),
    )
    .orderBy(asc(apiKeys.id))
    .limit(page.limit + 1);
  const names = await namesOfOwners(
    db,
    rows.flatMap(({ ownerId }) => ownerId ?? []),
  );
  return rows.map((row) => {
    const ownerName = names.get(row.ownerId ?? "");
    return { ...toKeyInfo(row), ...(ownerName !== undefined && { ownerName }) };
  });
}

/** Has this text, or had it before it was rotated. */
export function everHad(hash: Sha256) {
  return or(
    eq(apiKeys.hash, hash),
    sql`${apiKeys.retiredHashes} @> ${JSON.stringify([hash])}::jsonb`,
  );
}

export async function findKey(db: Queryable, id: string) {
  const parsed = keyIdSchema.safeParse(id);
  const [row] = parsed.success
    ? await db.select().from(apiKeys).where(eq(apiKeys.id, parsed.data))
    : [];
  if (!row) throw notFound("API key", id);
  return row;
}

export function toKeyInfo(row: typeof apiKeys.$inferSelect): KeyInfo {
  const { hash: _, previous, ...info } = toApiKey(row);
  return {
    ...info,
    createdAt: row.createdAt.toISOString(),
    ...(previous && { previousUntil: previous.until }),
    ...(row.redacted !== null && { redacted: row.redacted }),
    ...(row.lastUsedAt && { lastUsedAt: row.lastUsedAt.toISOString() }),
  };
}
