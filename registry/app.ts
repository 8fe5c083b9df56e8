/** The registry's HTTP surface: every route, who may call it, and the function that does it. */
import { Hono } from "hono";
import type { Logger } from "pino";
import { z } from "zod";
import * as admin from "../sdk/protocol/admin.ts";
import { contentEvent } from "../sdk/protocol/content-log.ts";
import { HubError, parseOrThrow, toErrorResponse } from "../sdk/protocol/errors.ts";
import type { Fetcher } from "../sdk/protocol/http.ts";
import type { ProjectId } from "../sdk/protocol/ids.ts";
import { aliasName, baseName } from "../sdk/protocol/model-name.ts";
import { aliasEvents, aliasesAfter, moveAlias, rollBackAlias } from "./adapters/aliases.ts";
import { getAdapter, getVersionByDigest, listAdapters } from "./adapters/read.ts";
import { limitConcurrency, receivePush } from "./adapters/receive-push.ts";
import { createKey, listKeys, noteKeysUsed, revokeKey, rotateKey } from "./api-keys.ts";
import type { ArtifactStore } from "./artifacts/store.ts";
import type { ChangeLog } from "./change.ts";
import type { RegistryLimits } from "./config.ts";
import type { Database } from "./db.ts";
import { listEvents } from "./events.ts";
import { readJson } from "./http/body.ts";
import { withDatabaseUnavailable } from "./http/database-errors.ts";
import { toList } from "./http/list.ts";
import { type Ctx, change, type Env, pageOf, parseName } from "./http/request.ts";
import {
  type Caller,
  clientAddress,
  identify,
  readProject,
  requireAdmin,
  requireContentKey,
  requireOperator,
  requireVisible,
  unknownKeysOf,
  visibleProject,
} from "./identity.ts";
import { addMeasurements, listMeasurements } from "./measurements.ts";
import { declareModel, getModel, listModels } from "./models.ts";
import { mountOrganization } from "./organization/routes.ts";
import { declareOrganization, getOrganization } from "./organization.ts";
import {
  createOwnKey,
  listOwnKeys,
  requirePerson,
  revokeOwnKey,
  rotateOwnKey,
} from "./people/own-keys.ts";
import { endSession, openSession, rotateSession } from "./people/sessions.ts";
import { addPrices, listPrices } from "./prices.ts";
import { createProject, getProject, listProjects, updateProject } from "./projects.ts";
import { declareRoute, getRoute, listRoutes } from "./routes.ts";
import type { SnapshotFeed } from "./snapshot.ts";

export type AppParts = {
  db: Database;
  changes: ChangeLog;
  artifacts: ArtifactStore;
  snapshots: SnapshotFeed;
  operatorKey: string;
  limits: RegistryLimits;
  now: () => number;
  logger: Logger;
};

/** Every request is first of somebody: routes see a caller and never a key. */
export function createApp(parts: AppParts): Fetcher & Pick<Hono<Env>, "routes"> {
  const app = new Hono<Env>();
  app.onError((error, context) => respondToError(error, context, parts.logger));
  app.notFound(({ req }) =>
    toErrorResponse(new HubError("unknown_url", `Unknown request URL: ${req.method} ${req.path}.`)),
  );
  const { changes, limits } = parts;
  const identity = {
    ...parts,
    unknownKeys: unknownKeysOf({ max: limits.unknownKeysMax, changes }),
  };
  for (const path of ["/api/*", "/v1/organization/*"]) {
    app.use(path, async (context, next) => {
      context.set("caller", await identify(context.req.raw, identity));
      context.set("address", clientAddress(context.req.raw, parts.operatorKey));
      await next();
    });
  }
  app.get("/api/whoami", (context) => context.json(whoami(context.var.caller)));
  addProjectsAndKeys(app, parts);
  addOwnKeys(app, parts);
  addModelsRoutesAndPrices(app, parts);
  addAdapters(app, parts);
  addEvidenceAndEvents(app, parts);
  addInternals(app, parts);
  addSessions(app, parts);
  mountOrganization(app, parts);
  return { fetch: async (request) => app.fetch(request), routes: app.routes };
}

function addProjectsAndKeys(app: Hono<Env>, parts: AppParts): void {
  const { db, limits, operatorKey } = parts;
  app.get("/api/organization", async (context) => {
    requireAdmin(context.var.caller);
    return context.json(await getOrganization(db));
  });
  app.put("/api/organization", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.declareOrganization, limits.jsonBytesMax);
    const { caller } = context.var;
    return context.json(
      await change(context, parts, (it) => declareOrganization(it, caller, body)),
    );
  });
  app.get("/api/projects", async (context) => {
    const page = pageOf(context, limits);
    return context.json(
      toList(await listProjects(db, visibleProject(context.var.caller), page), page),
    );
  });
  app.get("/api/projects/:id", async (context) => {
    const id = context.req.param("id");
    requireVisible(context.var.caller, "project", id, id);
    return context.json(await getProject(db, id));
  });
  app.post("/api/projects", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.createProject, limits.jsonBytesMax);
    if (body.contentLog) requireContentKey(context.req.raw, operatorKey);
    return context.json(await change(context, parts, (it) => createProject(it, body)), 201);
  });
  app.patch("/api/projects/:id", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.updateProject, limits.jsonBytesMax);
    if (body.contentLog) requireContentKey(context.req.raw, operatorKey);
    const id = context.req.param("id");
    return context.json(await change(context, parts, (it) => updateProject(it, id, body)));
  });

  app.get("/api/keys", async (context) => {
    requireAdmin(context.var.caller);
    const page = pageOf(context, limits);
    return context.json(toList(await listKeys(db, context.req.query("projectId"), page), page));
  });
  app.post("/api/keys", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.createKey, limits.jsonBytesMax);
    return context.json(await change(context, parts, (it) => createKey(it, body)), 201);
  });
  app.post("/api/keys/:id/rotate", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.rotateKey, limits.jsonBytesMax);
    const id = context.req.param("id");
    return context.json(await change(context, parts, (it) => rotateKey(it, id, body, limits)), 201);
  });
  app.delete("/api/keys/:id", async (context) => {
    requireAdmin(context.var.caller);
    const id = context.req.param("id");
    return context.json(await change(context, parts, (it) => revokeKey(it, id)));
  });
}

/** For people who are logged in. */
function addOwnKeys(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  app.get("/api/me/keys", async (context) => {
    const page = pageOf(context, limits);
    const user = requirePerson(context.var.caller);
    return context.json(toList(await listOwnKeys(db, user, page), page));
  });
  app.post("/api/me/keys", async (context) => {
    const user = requirePerson(context.var.caller);
    const body = await readJson(context.req.raw, admin.createOwnKey, limits.jsonBytesMax);
    return context.json(
      await change(context, parts, (it) => createOwnKey(it, user, body, limits)),
      201,
    );
  });
  app.post("/api/me/keys/:id/rotate", async (context) => {
    const user = requirePerson(context.var.caller);
    const body = await readJson(context.req.raw, admin.rotateKey, limits.jsonBytesMax);
    const key = { user, id: context.req.param("id") };
    return context.json(
      await change(context, parts, (it) => rotateOwnKey(it, key, body, limits)),
      201,
    );
  });
  app.delete("/api/me/keys/:id", async (context) => {
    const user = requirePerson(context.var.caller);
    const id = context.req.param("id");
    return context.json(await change(context, parts, (it) => revokeOwnKey(it, user, id)));
  });
}

function addModelsRoutesAndPrices(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  app.get("/api/models", async (context) => {
    const page = pageOf(context, limits);
    return context.json(toList(await listModels(db, page), page));
  });
  app.get("/api/models/:id", async (context) =>
    context.json(await getModel(db, context.req.param("id"))),
  );
  app.put("/api/models/:id", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.declareModel, limits.jsonBytesMax);
    const id = parseName(baseName, context.req.param("id"), "id");
    return context.json(await change(context, parts, (it) => declareModel(it, id, body)));
  });

  app.get("/api/routes", async (context) => {
    const page = pageOf(context, limits);
    return context.json(
      toList(await listRoutes(db, visibleProject(context.var.caller), page), page),
    );
  });
  app.get("/api/routes/:name", async (context) => {
    const project = readProject(context.var.caller, context.req.query("projectId"));
    const reader = visibleProject(context.var.caller);
    return context.json(
      await getRoute(db, context.req.param("name"), { projectId: project, reader }),
    );
  });
  app.put("/api/routes/:name", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.declareRoute, limits.jsonBytesMax);
    const name = parseName(baseName, context.req.param("name"), "name");
    return context.json(await change(context, parts, (it) => declareRoute(it, name, body)));
  });

  app.get("/api/prices", async (context) => {
    const page = pageOf(context, limits);
    const filter = {
      model: context.req.query("model"),
      visibleTo: visibleProject(context.var.caller),
    };
    return context.json(toList(await listPrices(db, filter, page), page));
  });
  app.post("/api/prices", async (context) => {
    requireAdmin(context.var.caller);
    const body = await readJson(context.req.raw, admin.addPrices, limits.jsonBytesMax);
    const added = await change(context, parts, (it) => addPrices(it, body.prices));
    return context.json(toList(added, { limit: added.length, after: undefined }), 201);
  });
}

function addAdapters(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  const push = limitConcurrency(limits.pushesMax, (context: Ctx) =>
    receivePush(context.req.raw, context.var.caller, parts),
  );
  app.post("/api/adapters", async (context) => {
    const { adapter, version, created } = await push(context);
    return context.json({ adapter, version }, created ? 201 : 200);
  });
  app.get("/api/adapters", async (context) => {
    const page = pageOf(context, limits);
    const visibleTo = visibleProject(context.var.caller);
    const asked = context.req.query("projectId");
    const projectId = asked === undefined ? undefined : readProject(context.var.caller, asked);
    return context.json(toList(await listAdapters(db, { visibleTo, projectId }, page), page));
  });
  app.get("/api/adapters/:id", async (context) =>
    context.json(await getAdapter(db, context.req.param("id"), visibleProject(context.var.caller))),
  );
  app.get("/api/adapters/:id/history", async (context) => {
    const caller = context.var.caller;
    const adapter = await getAdapter(db, context.req.param("id"), visibleProject(caller));
    requireVisible(caller, "adapter", adapter.id, adapter.projectId);
    const { alias, at } = parseOrThrow(historyQuery, context.req.query());
    const until = at === undefined ? undefined : new Date(at);
    const history = await aliasEvents(db, adapter, alias, until);
    return context.json({ object: "list", data: history, aliases: aliasesAfter(history) });
  });
  app.put("/api/adapters/:id/aliases/:alias", async (context) => {
    const body = await readJson(context.req.raw, admin.moveAlias, limits.jsonBytesMax);
    const alias = parseName(aliasName, context.req.param("alias"), "alias");
    const moved = await change(context, parts, async (it) =>
      moveAlias(it, await ownAdapter(context, it.tx), alias, body),
    );
    return context.json(moved);
  });
  app.post("/api/adapters/:id/aliases/:alias/rollback", async (context) => {
    const body = await readJson(context.req.raw, admin.rollBackAlias, limits.jsonBytesMax);
    const alias = parseName(aliasName, context.req.param("alias"), "alias");
    const moved = await change(context, parts, async (it) =>
      rollBackAlias(it, await ownAdapter(context, it.tx), alias, body),
    );
    return context.json(moved);
  });
}

function addEvidenceAndEvents(app: Hono<Env>, parts: AppParts): void {
  const { db, limits } = parts;
  app.get("/api/measurements", async (context) => {
    const page = pageOf(context, limits);
    const projectId = readProject(context.var.caller, context.req.query("projectId"));
    const filter = { projectId, task: context.req.query("task") };
    return context.json(toList(await listMeasurements(db, filter, page), page));
  });
  app.post("/api/measurements", async (context) => {
    const caller = context.var.caller;
    const body = await readJson(context.req.raw, admin.addMeasurements, limits.jsonBytesMax);
    for (const { projectId } of body.measurements) {
      requireVisible(caller, "project", projectId, projectId);
    }
    const added = await change(context, parts, (it) => addMeasurements(it, body.measurements));
    return context.json(toList(added, { limit: added.length, after: undefined }), 201);
  });
  app.get("/api/events", async (context) => {
    const page = pageOf(context, limits);
    const projectId = readProject(context.var.caller, context.req.query("projectId"));
    const filter = { projectId, subject: context.req.query("subject") };
    return context.json(toList(await listEvents(db, filter, page), page));
  });
}

/** For the other services of this installation. */
function addInternals(app: Hono<Env>, parts: AppParts): void {
  const { db, artifacts, changes, snapshots, limits } = parts;
  app.get("/api/snapshot", async (context) => {
    requireOperator(context.var.caller);
    const { after, waitMs } = parseOrThrow(snapshotQuery, context.req.query());
    const wait = Math.min(waitMs, limits.snapshotWaitMsMax);
    const json = await snapshots.next(after, wait, context.req.raw.signal);
    if (json === undefined) return new Response(null, { status: 304 });
    return new Response(json, { headers: { "content-type": "application/json" } });
  });
  app.post("/api/events", async (context) => {
    requireOperator(context.var.caller);
    const body = await readJson(context.req.raw, contentEvent, limits.jsonBytesMax);
    const { actor, projectId, ...event } = body;
    await changes.change({ actor, address: context.var.address }, ({ record }) =>
      record({ ...event, projectId: projectId as ProjectId }),
    );
    return context.json({ object: "event" }, 201);
  });
  app.get("/api/artifacts/:sha256", async (context) => {
    requireOperator(context.var.caller);
    const bytes = await artifacts.read(context.req.param("sha256"));
    return new Response(
      new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length),
      {
        headers: { "content-type": "application/octet-stream" },
      },
    );
  });
  app.get("/api/adapter-versions/:digest", async (context) => {
    requireOperator(context.var.caller);
    const { digest } = context.req.param();
    return context.json(await getVersionByDigest(db, digest, context.req.query("base")));
  });
}

/** For gateways, which see people log in and keys being used. */
function addSessions(app: Hono<Env>, parts: AppParts): void {
  const { limits } = parts;
  const read = <S extends z.ZodType>(context: Ctx, schema: S) => {
    requireOperator(context.var.caller);
    return readJson(context.req.raw, schema, limits.jsonBytesMax);
  };
  app.post("/api/keys/used", async (context) => {
    await noteKeysUsed(parts.db, await read(context, admin.keysUsed));
    return context.json({ noted: true });
  });
  app.post("/api/sessions", async (context) => {
    const { address } = context.var;
    const who = await read(context, admin.openSession);
    const bounds = { address, sessionsMax: limits.sessionsPerUserMax };
    return context.json(await openSession(parts, who, bounds), 201);
  });
  app.post("/api/sessions/rotate", async (context) => {
    const { token } = await read(context, admin.sessionToken);
    const rotated = await rotateSession(parts, token);
    if (!rotated) throw new HubError("not_found", "There is no such session.");
    return context.json(rotated);
  });
  app.post("/api/sessions/end", async (context) => {
    const { token } = await read(context, admin.sessionToken);
    await endSession(parts, token, context.var.address);
    return context.json({ deleted: true });
  });
}

/** The adapter of the URL, which the caller may change: not a shared one of another project. */
async function ownAdapter(context: Ctx, db: Parameters<typeof getAdapter>[0]) {
  const id = context.req.param("id") ?? "";
  const caller = context.var.caller;
  const adapter = await getAdapter(db, id, visibleProject(caller));
  requireVisible(caller, "adapter", id, adapter.projectId);
  return adapter;
}

function whoami(caller: Caller): admin.Whoami {
  switch (caller.type) {
    case "operator":
      return { keyId: "operator", role: "operator" };
    case "admin":
      return { keyId: caller.keyId, role: "admin" };
    case "user": {
      const { id, role, email, name } = caller.user;
      const told = { ...(email !== null && { email }), ...(name !== null && { name }) };
      return { keyId: id, role: "user", user: { role, ...told, projects: caller.projects } };
    }
    case "project":
      return { keyId: caller.keyId, role: "project", projectId: caller.projectId };
    default:
      return caller satisfies never;
  }
}

function respondToError(thrown: unknown, { req }: Ctx, logger: Logger): Response {
  const error = withDatabaseUnavailable(thrown);
  const response = toErrorResponse(error);
  if (response.status >= 500) {
    logger.error({ err: thrown, method: req.method, path: req.path }, "a request failed");
  }
  return response;
}

const historyQuery = z.object({
  alias: aliasName.optional(),
  /** What was true at that moment: events until then, and where the aliases pointed. */
  at: z.iso.datetime({ offset: true }).optional(),
});
const snapshotQuery = z.object({
  after: z.coerce.number().int().nonnegative().optional(),
  waitMs: z.coerce.number().int().nonnegative().default(0),
});
