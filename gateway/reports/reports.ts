/** The reports' addresses, and who may read what: an admin everything, a project's key its own project. */
import { type Context, Hono } from "hono";
import type postgres from "postgres";
import { z } from "zod";
import { asUnstorable } from "../../sdk/protocol/database-errors.ts";
import { HubError, parseOrThrow, toErrorResponse } from "../../sdk/protocol/errors.ts";
import { listAlerts } from "../budgets/alerts.ts";
import type { listBudgets } from "../budgets/list.ts";
import { defaultLimits, type GatewayLimits } from "../config.ts";
import { costReport, toCsv } from "./cost-report.ts";
import { LiveLog } from "./live-log.ts";
import { organizationCosts, usageKinds, usageOfCompletions, usageOfKind } from "./organization.ts";
import { readQuery, refuseUnknown } from "./query.ts";
import { listRequests, retrieveRequest } from "./request-list.ts";
import { requestFilters, type Viewer } from "./request-row.ts";

/** What reports need to know of the caller; the gateway's `Caller` is one. A person whom the door let in reads as an admin does. */
export type ReportCaller = { type: "admin" } | { type: "project"; project: { id: string } };

export type ReportParts = {
  sql: postgres.Sql;
  /** @throws HubError for keys that are missing or wrong */
  authenticate: (authorization: string | undefined) => ReportCaller | Promise<ReportCaller>;
  now: () => number;
  limits?: Pick<GatewayLimits, "requestListTimeoutMs"> | undefined;
  live?: LiveLog | undefined;
  /** How people know who owns a key. */
  ownerName?: ((id: string) => string | undefined) | undefined;
  /** A page of budgets; absent where there are none. */
  budgets?:
    | ((query: Parameters<typeof listBudgets>[1]) => ReturnType<typeof listBudgets>)
    | undefined;
};

/** Reads the database alone: a request shows there within about 200 ms of its end. */
export function createReports({
  sql,
  authenticate,
  now,
  limits = defaultLimits,
  live = new LiveLog({ sql, limits: defaultLimits }),
  ownerName,
  budgets = async () => ({ data: [], last: undefined }),
}: ReportParts): Hono {
  const app = new Hono();

  app.get("/v1/organization/costs", async (c) => {
    requireAdmin(await callerOf(c));
    return c.json(await organizationCosts(sql, c.req.url, now()));
  });
  app.get("/v1/organization/usage/completions", async (c) => {
    requireAdmin(await callerOf(c));
    return c.json(await usageOfCompletions(sql, c.req.url, now()));
  });
  for (const kind of usageKinds) {
    app.get(`/v1/organization/usage/${kind}`, async (c) => {
      requireAdmin(await callerOf(c));
      return c.json(await usageOfKind(sql, c.req.url, { kind, nowMs: now() }));
    });
  }
  app.get("/api/reports/costs", async (c) => {
    const { report, format } = await costReport(sql, c.req.url, {
      ...(await viewerOf(c)),
      nowMs: now(),
      ownerName,
    });
    if (format === "json") return c.json(report);
    const name = `costs-${report.from.slice(0, 10)}-${report.to.slice(0, 10)}.csv`;
    return c.body(toCsv(report), 200, {
      "content-type": "text/csv; charset=utf-8",
      "content-disposition": `attachment; filename="${name}"`,
    });
  });
  app.get("/api/requests", async (c) => {
    const options = { ...(await viewerOf(c)), timeoutMs: limits.requestListTimeoutMs };
    return c.json(await listRequests(sql, c.req.url, options));
  });
  app.get("/api/requests/stream", async (c) => {
    const viewer = await viewerOf(c);
    const raw = readQuery(c.req.url);
    refuseUnknown(raw, Object.keys(requestFilters.shape));
    const filters = parseOrThrow(requestFilters, raw);
    const stream = await live.follow({ filters, viewer, authorize: () => callerOf(c) });
    return new Response(stream, {
      headers: { "content-type": "text/event-stream", "cache-control": "no-cache" },
    });
  });
  app.get("/api/requests/:id", async (c) =>
    c.json(await retrieveRequest(sql, c.req.param("id"), await viewerOf(c))),
  );

  app.get("/api/budgets", async (c) => {
    const viewer = await viewerOf(c);
    const { limit, after, project } = parseOrThrow(budgetsQuery, c.req.query());
    const { projectId = project } = viewer;
    // A project's key sees its own alone.
    const isForeign = project !== undefined && project !== projectId;
    const { data, last } = isForeign ? nothing : await budgets({ projectId, after, limit });
    return c.json({ object: "list", data, has_more: last !== undefined, last_id: last ?? null });
  });
  app.get("/api/budgets/alerts", async (c) => {
    const viewer = await viewerOf(c);
    const { limit, after } = parseOrThrow(alertsQuery, c.req.query());
    const found = await listAlerts(sql, { ...viewer, before: after, limit: limit + 1 });
    const data = found.slice(0, limit);
    const last = data.at(-1)?.id;
    return c.json({ object: "list", data, has_more: found.length > limit, last_id: last ?? null });
  });

  app.notFound((c) =>
    toErrorResponse(
      new HubError("unknown_url", `Unknown request URL: ${c.req.method} ${c.req.path}.`),
    ),
  );
  app.onError((error) =>
    toErrorResponse(isOutage(error) ? databaseDown(error) : (asUnstorable(error) ?? error)),
  );
  return app;

  async function callerOf(c: Context): Promise<ReportCaller> {
    return authenticate(c.req.header("authorization"));
  }

  async function viewerOf(c: Context): Promise<Viewer> {
    const caller = await callerOf(c);
    return { projectId: caller.type === "project" ? caller.project.id : undefined };
  }
}

const pageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  after: z.string().max(1024).optional(),
});
const budgetsQuery = pageQuery.extend({ project: z.string().max(128).optional() });
const nothing = { data: [], last: undefined };
const alertsQuery = pageQuery.extend({ after: z.coerce.number().int().min(1).optional() });

function requireAdmin(caller: ReportCaller): void {
  if (caller.type === "admin") return;
  throw new HubError(
    "permission_denied",
    "The organization's usage and costs need an admin key. A project's key can read its own at /api/reports/costs.",
  );
}

function databaseDown(cause: unknown): HubError {
  return new HubError(
    "database_unavailable",
    "Reports need the database, which does not answer at the moment. Requests to models go on and are kept.",
    { cause, retryAfterMs: 1_000 },
  );
}

/** Codes of sockets, of the driver, and of Postgres when it starts, stops or has no schema yet. */
function isOutage(error: unknown): boolean {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string")
    return false;
  return (
    /^(ECONN|ENOENT|ENOTFOUND|EPIPE|ETIMEDOUT|EHOSTUNREACH|EAI_)/.test(error.code) ||
    /^(CONNECT|CONNECTION_)/.test(error.code) ||
    /^(08|57P|53)/.test(error.code) ||
    ["3F000", "42P01"].includes(error.code)
  );
}
