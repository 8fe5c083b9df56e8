/** API keys as rows: made, listed, revoked. The key itself leaves this file once and is never kept. */
import { and, asc, eq, gt } from "drizzle-orm";
import type { z } from "zod";
import type { CreatedKey, createKey as createSchema, KeyInfo } from "../sdk/protocol/admin.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import {
  type KeyId,
  keyId as keyIdSchema,
  newId,
  projectId as projectIdSchema,
} from "../sdk/protocol/ids.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { notFound } from "./identity.ts";
import { generateKey, hashKey } from "./keys.ts";
import { getProject } from "./projects.ts";
import { toApiKey } from "./rows.ts";
import { apiKeys } from "./schema.ts";

/**
 * @param key one that the operator chose; absent makes a new one
 * @throws HubError `missing_required_parameter`, `invalid_value`, `not_found` for the project,
 *   `already_exists` for a key that is in use
 */
export async function createKey(
  { tx, at, record }: Change,
  input: z.infer<typeof createSchema>,
  key = generateKey(input.role),
): Promise<CreatedKey> {
  const { expiresInSeconds, projectId, ...rest } = input;
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
  const [taken] = await tx.select().from(apiKeys).where(eq(apiKeys.hash, hash));
  if (taken) throw new HubError("already_exists", "This key is already in use.");
  const [row] = await tx
    .insert(apiKeys)
    .values({
      ...rest,
      id: newId("key", at.getTime()),
      hash,
      projectId: projectId ?? null,
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

/** From now on the key is unknown. Revoking it again changes nothing. @throws HubError `not_found` */
export async function revokeKey({ tx, at, record }: Change, id: string): Promise<KeyInfo> {
  const parsed = keyIdSchema.safeParse(id);
  const [row] = parsed.success
    ? await tx.select().from(apiKeys).where(eq(apiKeys.id, parsed.data))
    : [];
  if (!row) throw notFound("API key", id);
  if (row.revokedAt !== null) return toKeyInfo(row);
  await tx.update(apiKeys).set({ revokedAt: at }).where(eq(apiKeys.id, row.id));
  await record({ type: "key.revoked", subject: row.id, projectId: row.projectId });
  return toKeyInfo({ ...row, revokedAt: at });
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
  return rows.map(toKeyInfo);
}

function toKeyInfo(row: typeof apiKeys.$inferSelect): KeyInfo {
  const { hash: _, ...info } = toApiKey(row);
  return { ...info, createdAt: row.createdAt.toISOString() };
}
