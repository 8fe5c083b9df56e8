/** The history of everything: who changed what, when, in the order of commits. */
import { and, asc, eq, gt } from "drizzle-orm";
import type { RegistryEvent } from "../sdk/protocol/catalog.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import type { ProjectId } from "../sdk/protocol/ids.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { toEvent } from "./rows.ts";
import { events } from "./schema.ts";

/** @param filter.projectId only this project's events @throws HubError for an `after` that is no number */
export async function listEvents(
  db: Queryable,
  filter: { projectId?: ProjectId | undefined; subject?: string | undefined },
  page: Page,
): Promise<RegistryEvent[]> {
  const after = page.after === undefined ? undefined : Number(page.after);
  if (after !== undefined && !Number.isSafeInteger(after)) {
    throw new HubError("invalid_value", "'after' is not an event's id.", { param: "after" });
  }
  const rows = await db
    .select()
    .from(events)
    .where(
      and(
        filter.projectId && eq(events.projectId, filter.projectId),
        filter.subject === undefined ? undefined : eq(events.subject, filter.subject),
        after === undefined ? undefined : gt(events.id, after),
      ),
    )
    .orderBy(asc(events.id))
    .limit(page.limit + 1);
  return rows.map(toEvent);
}
