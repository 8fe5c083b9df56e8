/** `/v1/organization`: the part of OpenAI's admin API that manages projects, accounts, keys, limits and people. */
import { and, asc, eq, gt } from "drizzle-orm";
import type { Hono } from "hono";
import { createKey as keySchema } from "../../sdk/protocol/admin.ts";
import type { ProjectId } from "../../sdk/protocol/ids.ts";
import * as organization from "../../sdk/protocol/organization.ts";
import { createKey, revokeKey } from "../api-keys.ts";
import type { AppParts } from "../app.ts";
import type { Change } from "../change.ts";
import { type Page, toList } from "../http/list.ts";
import { change, type Env, pageOf } from "../http/request.ts";
import { requireAdmin } from "../identity.ts";
import { listModels } from "../models.ts";
import { getOrganization, setOrganization } from "../organization.ts";
import {
  createServiceAccount,
  deleteServiceAccount,
  getServiceAccount,
  listServiceAccounts,
  updateServiceAccount,
} from "../people/service-accounts.ts";
import {
  archiveProject,
  createProject,
  findProject,
  getProject,
  updateProject,
} from "../projects.ts";
import { projects } from "../schema.ts";
import { gone, ofProject, read, root } from "./address.ts";
import {
  findProjectKey,
  getAdminKey,
  getProjectKey,
  listAdminKeys,
  listProjectKeys,
  setExpiry,
} from "./keys.ts";
import { addPeople } from "./people-routes.ts";
import { toRateLimit, updateRateLimit } from "./rate-limits.ts";
import {
  toAdminKey,
  toOrganizationProject,
  toServiceAccount,
  toServiceAccountKey,
} from "./shapes.ts";
import { addSpendAlerts } from "./spend-alert-routes.ts";
import { isSpendLimit, toSpendLimit, withSpendLimit } from "./spend-limit.ts";

export function mountOrganization(app: Hono<Env>, parts: AppParts): void {
  app.use(`${root}/*`, async (context, next) => {
    requireAdmin(context.var.caller);
    await next();
  });
  addProjects(app, parts);
  addServiceAccounts(app, parts);
  addKeys(app, parts);
  addLimits(app, parts);
  addSpendAlerts(app, parts);
  addPeople(app, parts);
}

function addProjects(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  app.get(`${root}/projects`, async (context) => {
    const page = pageOf(context, limits);
    const archived = context.req.query("include_archived") === "true";
    const rows = await listProjectRows(db, page, archived);
    return context.json(toList(rows.map(toOrganizationProject), page));
  });
  app.post(`${root}/projects`, async (context) => {
    const { name } = await read(context, parts, organization.createOrganizationProject);
    const row = await change(context, parts, async (it) => {
      const { id } = await createProject(it, { name, limits: {}, unpriced: "allow" });
      return findProject(it.tx, id);
    });
    return context.json(toOrganizationProject(row));
  });
  app.get(ofProject, async (context) =>
    context.json(toOrganizationProject(await findProject(db, context.req.param("id")))),
  );
  app.post(ofProject, async (context) => {
    const body = await read(context, parts, organization.updateOrganizationProject);
    const row = await change(context, parts, async (it) => {
      const { id } = await updateProject(it, context.req.param("id"), body);
      return findProject(it.tx, id);
    });
    return context.json(toOrganizationProject(row));
  });
  app.post(`${ofProject}/archive`, async (context) => {
    const row = await change(context, parts, async (it) => {
      await archiveProject(it, context.req.param("id"));
      return findProject(it.tx, context.req.param("id"));
    });
    return context.json(toOrganizationProject(row));
  });
}

function addServiceAccounts(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  const all = `${ofProject}/service_accounts`;
  const one = `${all}/:account`;
  app.get(all, async (context) => {
    const page = pageOf(context, limits);
    const rows = await listServiceAccounts(db, context.req.param("id"), page);
    return context.json(toList(rows.map(toServiceAccount), page));
  });
  app.post(all, async (context) => {
    const body = await read(context, parts, organization.createServiceAccount);
    const made = await change(context, parts, async (it) => {
      const account = await createServiceAccount(it, context.req.param("id"), body);
      const key = body.create_service_account_only
        ? undefined
        : await createKey(it, keyOf(account, body), undefined, account.id);
      return { ...toServiceAccount(account), api_key: key ? toServiceAccountKey(key) : null };
    });
    return context.json(made);
  });
  app.get(one, async (context) => {
    const { id, account } = context.req.param();
    return context.json(toServiceAccount(await getServiceAccount(db, id, account)));
  });
  app.post(one, async (context) => {
    const body = await read(context, parts, organization.updateServiceAccount);
    const { id, account } = context.req.param();
    const changed = await change(context, parts, async (it) =>
      updateServiceAccount(it, await getServiceAccount(it.tx, id, account), body),
    );
    return context.json(toServiceAccount(changed));
  });
  app.delete(one, async (context) => {
    const { id, account } = context.req.param();
    await change(context, parts, async (it) =>
      deleteServiceAccount(it, await getServiceAccount(it.tx, id, account)),
    );
    return context.json(gone("organization.project.service_account", account));
  });
  app.post(`${one}/api_keys`, async (context) => {
    const body = await read(context, parts, organization.createServiceAccountKey);
    const { id, account } = context.req.param();
    const key = await change(context, parts, async (it) => {
      const owner = await getServiceAccount(it.tx, id, account);
      return createKey(it, keyOf(owner, body), undefined, owner.id);
    });
    return context.json(toServiceAccountKey(key));
  });
}

function addKeys(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  app.get(`${ofProject}/api_keys`, async (context) => {
    const page = pageOf(context, limits);
    return context.json(toList(await listProjectKeys(db, context.req.param("id"), page), page));
  });
  app.get(`${ofProject}/api_keys/:key`, async (context) => {
    const { id, key } = context.req.param();
    return context.json(await getProjectKey(db, id, key));
  });
  app.post(`${ofProject}/api_keys/:key`, async (context) => {
    const body = await read(context, parts, organization.updateOrganizationKey);
    const { id, key } = context.req.param();
    const changed = await change(context, parts, async (it) => {
      const row = await findProjectKey(it.tx, id, key);
      if (body.expires_in_seconds !== undefined) await setExpiry(it, row, body.expires_in_seconds);
      return getProjectKey(it.tx, id, key);
    });
    return context.json(changed);
  });
  app.delete(`${ofProject}/api_keys/:key`, async (context) => {
    const { id, key } = context.req.param();
    await change(context, parts, async (it) =>
      revokeKey(it, (await findProjectKey(it.tx, id, key)).id),
    );
    return context.json(gone("organization.project.api_key", key));
  });

  app.get(`${root}/admin_api_keys`, async (context) => {
    const page = pageOf(context, limits);
    return context.json(toList((await listAdminKeys(db, page)).map(toAdminKey), page));
  });
  app.post(`${root}/admin_api_keys`, async (context) => {
    const body = await read(context, parts, organization.createAdminApiKey);
    const made = await change(context, parts, async (it) => {
      const wanted = { name: body.name, role: "admin", expiresInSeconds: body.expires_in_seconds };
      const { id, key } = await createKey(it, keySchema.parse(wanted));
      return { ...toAdminKey(await getAdminKey(it.tx, id)), value: key };
    });
    return context.json(made);
  });
  app.get(`${root}/admin_api_keys/:key`, async (context) =>
    context.json(toAdminKey(await getAdminKey(db, context.req.param("key")))),
  );
  app.delete(`${root}/admin_api_keys/:key`, async (context) => {
    const key = context.req.param("key");
    await change(context, parts, async (it) => revokeKey(it, (await getAdminKey(it.tx, key)).id));
    return context.json(gone("organization.admin_api_key", key));
  });
}

function addLimits(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  app.get(`${ofProject}/rate_limits`, async (context) => {
    const page = pageOf(context, limits);
    const after = page.after?.replace(/^rl-/, "");
    const project = await getProject(db, context.req.param("id"));
    const models = await listModels(db, { ...page, after });
    return context.json(
      toList(
        models.map(({ id }) => toRateLimit(project, id)),
        page,
      ),
    );
  });
  app.post(`${ofProject}/rate_limits/:limit`, async (context) => {
    const body = await read(context, parts, organization.updateRateLimit);
    const { id, limit } = context.req.param();
    const changed = await change(context, parts, (it) =>
      updateRateLimit(it, { projectId: id, id: limit }, body),
    );
    return context.json(changed);
  });
  app.get(`${ofProject}/spend_limit`, async (context) =>
    context.json(toSpendLimit("project", await getProject(db, context.req.param("id")))),
  );
  app.post(`${ofProject}/spend_limit`, async (context) => {
    const { threshold_amount: cents } = await read(context, parts, organization.updateSpendLimit);
    const changed = await change(context, parts, (it) =>
      setSpendLimit(it, context.req.param("id"), cents),
    );
    return context.json(toSpendLimit("project", changed));
  });
  app.delete(`${ofProject}/spend_limit`, async (context) => {
    const id = context.req.param("id");
    await change(context, parts, async (it) => {
      toSpendLimit("project", await getProject(it.tx, id));
      await setSpendLimit(it, id, undefined);
    });
    return context.json({ object: "project.spend_limit.deleted", deleted: true });
  });
  app.get(`${root}/spend_limit`, async (context) =>
    context.json(toSpendLimit("organization", await getOrganization(db))),
  );
  app.post(`${root}/spend_limit`, async (context) => {
    const { threshold_amount: cents } = await read(context, parts, organization.updateSpendLimit);
    const changed = await change(context, parts, async (it) => {
      const held = await getOrganization(it.tx);
      return setOrganization(it, { ...held, budgets: withSpendLimit(held.budgets, cents) });
    });
    return context.json(toSpendLimit("organization", changed));
  });
  app.delete(`${root}/spend_limit`, async (context) => {
    await change(context, parts, async (it) => {
      const held = await getOrganization(it.tx);
      toSpendLimit("organization", held);
      const budgets = withSpendLimit(held.budgets, undefined);
      await setOrganization(it, { ...held, budgets });
    });
    return context.json({ object: "organization.spend_limit.deleted", deleted: true });
  });
}

/** In `budgets`, and in the single `budget` of old where that is it. @param cents undefined for none */
async function setSpendLimit(it: Change, id: string, cents: number | undefined) {
  const { budget, budgets } = await getProject(it.tx, id);
  return updateProject(it, id, {
    budgets: withSpendLimit(budgets, cents),
    ...(budget && isSpendLimit(budget) && { budget: null }),
  });
}

/** A key for an account, as `createKey` takes it. */
function keyOf(
  account: { projectId: ProjectId; name: string },
  body: { name?: string | undefined; expires_in_seconds?: number | null | undefined },
) {
  return keySchema.parse({
    name: body.name ?? account.name,
    role: "project",
    projectId: account.projectId,
    ...(body.expires_in_seconds != null && { expiresInSeconds: body.expires_in_seconds }),
  });
}

function listProjectRows(db: AppParts["db"], page: Page, archived: boolean) {
  return db
    .select()
    .from(projects)
    .where(
      and(
        archived ? undefined : eq(projects.archived, false),
        page.after === undefined ? undefined : gt(projects.id, page.after as ProjectId),
      ),
    )
    .orderBy(asc(projects.id))
    .limit(page.limit + 1);
}
