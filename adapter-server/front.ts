/** What every route stands behind: request ids, keys, limits, and errors in the shapes that clients know. */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Registry } from "prom-client";
import { HubError, toErrorResponse } from "../sdk/protocol/errors.ts";
import { servedModelHeader, tenantHeader, timeoutHeader } from "../sdk/protocol/http.ts";
import { newId, requestId } from "../sdk/protocol/ids.ts";
import type { ServerLimits } from "./config.ts";
import type { Caller } from "./generation/generate.ts";
import { identify, type Keys } from "./identity.ts";

export type Env = { Variables: { requestId: string; isOperator: boolean } };

export type FrontParts = Keys & {
  limits: Pick<ServerLimits, "bodyBytesMax">;
  version: string;
  metrics: { registry: Registry; rejected(): void };
  isReady: () => boolean;
  nowMs: () => number;
  onFault: (message: string, cause: unknown) => void;
  /** Where a route has error bodies of its own. */
  toError?: (error: unknown, path: string) => Response;
};

/** An app without routes but those of probes and scrapers. */
export function openFront(parts: FrontParts): Hono<Env> {
  const { limits, metrics, isReady, toError = (error) => toErrorResponse(error) } = parts;
  const app = new Hono<Env>();
  app.use(async (c, next) => {
    const given = requestId.safeParse(c.req.header("x-request-id"));
    c.set("requestId", given.success ? given.data : newId("req", parts.nowMs()));
    await next();
    c.res.headers.set("x-request-id", c.get("requestId"));
  });
  app.use(async (c, next) => {
    const isOpen = openPaths.has(c.req.path);
    c.set("isOperator", !isOpen && identify(parts, c.req.header("authorization")));
    await next();
  });
  app.use(
    bodyLimit({
      maxSize: limits.bodyBytesMax,
      onError: () => {
        throw new HubError(
          "request_too_large",
          `A request body may have at most ${limits.bodyBytesMax} bytes.`,
        );
      },
    }),
  );
  for (const path of ["/health", "/ping"]) {
    app.get(path, () => new Response(null, { status: isReady() ? 200 : 503 }));
  }
  app.get("/version", (c) => c.json({ version: parts.version }));
  app.get("/metrics", async (c) =>
    c.body(await metrics.registry.metrics(), 200, { "content-type": metrics.registry.contentType }),
  );
  app.notFound((c) =>
    toErrorResponse(
      new HubError("unknown_url", `Unknown request URL: ${c.req.method} ${c.req.path}.`),
    ),
  );
  app.onError((error, c) => {
    if (error instanceof HubError && turnedAway.has(error.code)) metrics.rejected();
    if (!(error instanceof HubError)) parts.onFault(`${c.req.method} ${c.req.path} failed`, error);
    return toError(error, c.req.path);
  });
  return app;
}

/**
 * The gateway tells for whom it asks, and by which name its client knows the weights. Others do not: who could
 * name tenants could have the share of many.
 */
export function callerOf(
  c: Context<Env>,
  { timeoutMsMax }: Pick<ServerLimits, "timeoutMsMax">,
): Caller {
  const isOperator = c.get("isOperator");
  const { signal } = c.req.raw;
  const timeoutMs = readTimeout(c.req.header(timeoutHeader), timeoutMsMax);
  if (!isOperator) return { signal, isOperator, tenant: "", timeoutMs };
  const tenant = c.req.header(tenantHeader) ?? "";
  return { signal, isOperator, tenant, timeoutMs, servedAs: c.req.header(servedModelHeader) };
}

/** @throws HubError `number_out_of_range` */
function readTimeout(header: string | undefined, max: number): number | undefined {
  if (header === undefined) return undefined;
  const timeoutMs = /^\d{1,15}$/.test(header) ? Number(header) : 0;
  if (timeoutMs >= 1 && timeoutMs <= max) return timeoutMs;
  throw new HubError(
    "number_out_of_range",
    `Invalid '${timeoutHeader}': expected whole milliseconds from 1 to ${max}.`,
    { param: timeoutHeader },
  );
}

/** What probes and scrapers ask for without a key. */
const openPaths: ReadonlySet<string> = new Set(["/health", "/ping", "/version", "/metrics"]);

/** What those hear for whom there is no room. */
const turnedAway: ReadonlySet<string> = new Set(["server_is_overloaded", "rate_limit_exceeded"]);
