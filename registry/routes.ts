/** Routes: named policies that clients use as a model, for all projects or for one. */
import { and, asc, eq, gt, isNull, or } from "drizzle-orm";
import type { z } from "zod";
import type { declareRoute as declareSchema } from "../sdk/protocol/admin.ts";
import type { FallbackOn, Route } from "../sdk/protocol/catalog.ts";
import { HubError } from "../sdk/protocol/errors.ts";
import { newId, type ProjectId, type RouteId } from "../sdk/protocol/ids.ts";
import type { Change } from "./change.ts";
import type { Queryable } from "./db.ts";
import type { Page } from "./http/list.ts";
import { notFound } from "./identity.ts";
import { findModel } from "./models.ts";
import { getProject } from "./projects.ts";
import { toRoute } from "./rows.ts";
import { sameJson } from "./same-json.ts";
import { adapters, routes } from "./schema.ts";

/**
 * Declares a route whole; the same again changes nothing.
 * @throws HubError `not_found` for the project, `already_exists` when a model has the name
 */
export async function declareRoute(
  { tx, at, record }: Change,
  name: string,
  input: z.infer<typeof declareSchema>,
): Promise<Route> {
  const { projectId, ...policy } = input;
  if (projectId !== undefined) await getProject(tx, projectId);
  if (await findModel(tx, name)) {
    throw new HubError("already_exists", `'${name}' is a model; a route needs a name of its own.`);
  }
  const before = await findRoute(tx, name, projectId);
  if (before && sameJson(before, { ...input, name, id: before.id })) return before;
  const declared = { ...policy, fallbackOn: policy.fallbackOn ?? null };
  const row = {
    ...declared,
    id: before?.id ?? newId("route", at.getTime()),
    name,
    projectId: projectId ?? null,
  };
  await tx.insert(routes).values(row).onConflictDoUpdate({ target: routes.id, set: declared });
  await record({
    type: "route.declared",
    subject: row.id,
    projectId: row.projectId,
    detail: { name, ...policy },
  });
  return toRoute(row);
}

/**
 * The project's own route of that name, else everybody's.
 * @param reader the project that reads it; absent for an admin, who sees all of it
 * @throws HubError `not_found`
 */
export async function getRoute(
  db: Queryable,
  name: string,
  { projectId, reader }: { projectId: ProjectId | undefined; reader: ProjectId | undefined },
): Promise<Route> {
  const own = projectId && (await findRoute(db, name, projectId));
  const found = own ?? (await findRoute(db, name, undefined));
  if (!found) throw notFound("route", name);
  const [seen = found] = await asSeenBy(db, reader, [found]);
  return seen;
}

/** @param only the project whose own routes are listed with everybody's; absent lists all */
export async function listRoutes(
  db: Queryable,
  only: ProjectId | undefined,
  page: Page,
): Promise<Route[]> {
  const rows = await db
    .select()
    .from(routes)
    .where(
      and(
        only && or(isNull(routes.projectId), eq(routes.projectId, only)),
        page.after === undefined ? undefined : gt(routes.id, page.after as RouteId),
      ),
    )
    .orderBy(asc(routes.id))
    .limit(page.limit + 1);
  return asSeenBy(db, only, rows.map(toRoute));
}

/** Everybody's routes may list adapters that are one project's: to the others those do not exist. */
async function asSeenBy(
  db: Queryable,
  reader: ProjectId | undefined,
  found: readonly Route[],
): Promise<Route[]> {
  if (reader === undefined) return [...found];
  const rows = await db
    .select({ base: adapters.base, name: adapters.name })
    .from(adapters)
    .where(or(eq(adapters.projectId, reader), eq(adapters.shared, true)));
  const seen = new Set(rows.map(({ base, name }) => `${base}:${name}`));
  const isSeen = (model: string) => !model.includes(":") || seen.has(model.replace(/@.*$/, ""));
  return found.map((route) =>
    route.projectId !== undefined
      ? route
      : {
          ...route,
          defaultModel: isSeen(route.defaultModel)
            ? route.defaultModel
            : route.defaultModel.replace(/:.*$/, ""),
          fallbacks: route.fallbacks.filter(isSeen),
          ...(route.fallbackOn && { fallbackOn: withSeen(route.fallbackOn, isSeen) }),
          tasks: route.tasks
            .map((task) => ({ ...task, candidates: task.candidates.filter(isSeen) }))
            .filter(({ candidates }) => candidates.length > 0),
        },
  );
}

function withSeen(fallbackOn: FallbackOn, isSeen: (model: string) => boolean): FallbackOn {
  return Object.fromEntries(
    Object.entries(fallbackOn).map(([code, models]) => [code, models?.filter(isSeen)]),
  );
}

async function findRoute(
  db: Queryable,
  name: string,
  projectId: ProjectId | undefined,
): Promise<Route | undefined> {
  const owner =
    projectId === undefined ? isNull(routes.projectId) : eq(routes.projectId, projectId);
  const [row] = await db
    .select()
    .from(routes)
    .where(and(eq(routes.name, name), owner));
  return row && toRoute(row);
}
