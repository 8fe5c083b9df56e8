/** Effective-dated prices. Rows are only ever added: a later `recordedAt` corrects an earlier one. */
import { and, asc, desc, eq, gt, inArray, isNull, notLike, or, sql } from "drizzle-orm";
import type { z } from "zod";
import type { addPrices as addSchema } from "../sdk/protocol/admin.ts";
import type { Price } from "../sdk/protocol/catalog.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import { newId, type PriceId, type ProjectId } from "../sdk/protocol/ids.ts";
import { formatUsd, parseUsd } from "../sdk/protocol/money.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { toPrice } from "./rows.ts";
import { adapters, prices } from "./schema.ts";

export type NewPrice = z.infer<typeof addSchema>["prices"][number];

/** @throws HubError `invalid_value` for a price below zero or without a time */
export async function addPrices(
  { tx, at, record }: Change,
  input: readonly NewPrice[],
): Promise<Price[]> {
  const rows = input.map((price, index) => ({
    ...price,
    id: newId("price", at.getTime()),
    usdPerToken: plainPrice(price.usdPerToken, `prices[${index}].usdPerToken`),
    validFrom: price.validFrom === undefined ? at : new Date(price.validFrom),
    recordedAt: at,
  }));
  const added = (await tx.insert(prices).values(rows).returning()).map(toPrice);
  for (const { id, model, meter, tier, usdPerToken, validFrom, source } of added) {
    const detail = { model, meter, ...(tier && { tier }), usdPerToken, validFrom, source };
    await record({ type: "price.added", subject: id, projectId: null, detail });
  }
  return added;
}

/**
 * Adds those prices that differ from the last one of the same source, so that a settings file may be
 * read again at every start, and a price that was set otherwise since then stands.
 */
export async function declarePrices(change: Change, input: readonly NewPrice[]): Promise<Price[]> {
  const changed: NewPrice[] = [];
  for (const price of input) {
    const [last] = await change.tx
      .select()
      .from(prices)
      .where(
        and(
          eq(prices.model, price.model),
          eq(prices.meter, price.meter),
          price.tier === undefined ? isNull(prices.tier) : eq(prices.tier, price.tier),
          eq(prices.source, price.source),
        ),
      )
      .orderBy(desc(prices.recordedAt), desc(prices.id))
      .limit(1);
    const same =
      last !== undefined &&
      parseUsd(last.usdPerToken) === parseUsd(price.usdPerToken) &&
      (price.validFrom === undefined || last.validFrom.getTime() === Date.parse(price.validFrom));
    if (!same) changed.push(price);
  }
  return changed.length === 0 ? [] : addPrices(change, changed);
}

/** @param filter.visibleTo keeps the prices of models, and of adapters that the project may see */
export async function listPrices(
  db: Queryable,
  { model, visibleTo }: { model?: string | undefined; visibleTo?: ProjectId | undefined },
  page: Page,
): Promise<Price[]> {
  const rows = await db
    .select()
    .from(prices)
    .where(
      and(
        model === undefined ? undefined : eq(prices.model, model),
        visibleTo &&
          or(notLike(prices.model, "%:%"), inArray(prices.model, namesOf(db, visibleTo))),
        page.after === undefined ? undefined : gt(prices.id, page.after as PriceId),
      ),
    )
    .orderBy(asc(prices.id))
    .limit(page.limit + 1);
  return rows.map(toPrice);
}

/** `base:adapter` of every adapter that the project may see. */
function namesOf(db: Queryable, project: ProjectId) {
  return db
    .select({ name: sql<string>`${adapters.base} || ':' || ${adapters.name}` })
    .from(adapters)
    .where(or(eq(adapters.projectId, project), adapters.shared));
}

function plainPrice(usd: string, param: string): string {
  const pico = parseUsd(usd);
  if (pico < 0n) throw new HubError("invalid_value", "A price is not below zero.", { param });
  return formatUsd(pico);
}
