/** The reports' addresses, and who may read what: an admin everything, a project's key its own project. */
import { type Context, Hono } from "hono";
import type postgres from "postgres";
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";
import { costReport, toCsv } from "./cost-report.ts";
import { organizationCosts, usageOfCompletions } from "./organization.ts";
import { listRequests, retrieveRequest, type Viewer } from "./request-list.ts";

/** What reports need to know of the caller; the gateway's `Caller` is one. */
export type ReportCaller = { type: "admin" } | { type: "project"; project: { id: string } };

export type ReportParts = {
  sql: postgres.Sql;
  /** @throws HubError for keys that are missing or wrong */
  authenticate: (authorization: string | undefined) => ReportCaller;
  now: () => number;
};

/** Reads the database alone: a request shows there within about 200 ms of its end. */
export function createReports({ sql, authenticate, now }: ReportParts): Hono {
  const app = new Hono();

  app.get("/v1/organization/costs", async (c) => {
    requireAdmin(callerOf(c));
    return c.json(await organizationCosts(sql, c.req.url, now()));
  });
  app.get("/v1/organization/usage/completions", async (c) => {
    requireAdmin(callerOf(c));
    return c.json(await usageOfCompletions(sql, c.req.url, now()));
  });
  app.get("/api/reports/costs", async (c) => {
    const { report, format } = await costReport(sql, c.req.url, {
      ...viewerOf(c),
      nowMs: now(),
    });
    if (format === "json") return c.json(report);
    const name = `costs-${report.from.slice(0, 10)}-${report.to.slice(0, 10)}.csv`;
    return c.body(toCsv(report), 200, {
      "content-type": "text/csv; charset=utf-8",
      "content-disposition": `attachment; filename="${name}"`,
    });
  });
  app.get("/api/requests", async (c) => c.json(await listRequests(sql, c.req.url, viewerOf(c))));
  app.get("/api/requests/:id", async (c) =>
    c.json(await retrieveRequest(sql, c.req.param("id"), viewerOf(c))),
  );

  app.notFound((c) =>
    toErrorResponse(
      new HubError("unknown_url", `Unknown request URL: ${c.req.method} ${c.req.path}.`),
    ),
  );
  app.onError((error) => toErrorResponse(isOutage(error) ? databaseDown(error) : error));
  return app;

  function callerOf(c: Context): ReportCaller {
    return authenticate(c.req.header("authorization"));
  }

  function viewerOf(c: Context): Viewer {
    const caller = callerOf(c);
    return { projectId: caller.type === "project" ? caller.project.id : undefined };
  }
}

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
