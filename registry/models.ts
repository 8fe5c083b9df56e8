/** Models that exist: whose upstream serves them, and for a base its sizes, which adapters must fit. */
import { asc, count, eq, gt } from "drizzle-orm";
import type { z } from "zod";
import type { declareModel as declareSchema } from "../sdk/protocol/admin.ts";
import type { Model } from "../sdk/protocol/catalog.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { notFound } from "./identity.ts";
import { toModel } from "./rows.ts";
import { sameJson } from "./same-json.ts";
import { adapters, models, routes } from "./schema.ts";

/**
 * Declares a model whole; the same again changes nothing.
 * @throws HubError `already_exists` when a route has the name, `adapter_base_mismatch` when adapters were
 *   checked against another base of that id
 */
export async function declareModel(
  { tx, at, record }: Change,
  id: string,
  input: z.infer<typeof declareSchema>,
): Promise<Model> {
  const before = await findModel(tx, id);
  if (before) {
    const { id: _, createdAt: __, ...declared } = before;
    if (sameJson(declared, input)) return before;
    if (before.base && before.base.digest !== input.base?.digest) await refuseWithAdapters(tx, id);
  }
  const [route] = await tx.select().from(routes).where(eq(routes.name, id)).limit(1);
  if (route) {
    throw new HubError("already_exists", `'${id}' is a route; a model needs a name of its own.`);
  }
  const columns = {
    upstream: input.upstream,
    upstreamModel: input.upstreamModel,
    contextLength: input.contextLength ?? null,
    maxOutputTokens: input.maxOutputTokens ?? null,
    tokenizer: input.tokenizer ?? null,
    ownedBy: input.ownedBy,
    base: input.base ?? null,
  };
  const [row] = await tx
    .insert(models)
    .values({ id, ...columns, createdAt: at })
    .onConflictDoUpdate({ target: models.id, set: columns })
    .returning();
  if (!row) throw new Error("the upsert returned no row");
  await record({ type: "model.declared", subject: id, projectId: null, detail: { ...input } });
  return toModel(row);
}

export async function findModel(db: Queryable, id: string): Promise<Model | undefined> {
  const [row] = await db.select().from(models).where(eq(models.id, id));
  return row && toModel(row);
}

/** @throws HubError `not_found` */
export async function getModel(db: Queryable, id: string): Promise<Model> {
  const found = await findModel(db, id);
  if (!found) throw notFound("model", id);
  return found;
}

export async function listModels(db: Queryable, page: Page): Promise<Model[]> {
  const rows = await db
    .select()
    .from(models)
    .where(page.after === undefined ? undefined : gt(models.id, page.after))
    .orderBy(asc(models.id))
    .limit(page.limit + 1);
  return rows.map(toModel);
}

/** Adapters over changed weights would go on answering, and answer nonsense. */
async function refuseWithAdapters(db: Queryable, id: string): Promise<void> {
  const [made] = await db.select({ count: count() }).from(adapters).where(eq(adapters.base, id));
  if (made && made.count > 0) {
    throw new HubError(
      "adapter_base_mismatch",
      `${made.count} adapters were made for the weights that '${id}' has now. Declare the new base under another id.`,
      { param: "base.digest", details: { adapters: made.count } },
    );
  }
}
