/** The gateway's door: every address it answers, and a request's way through it, in order. */
import { type Context, Hono } from "hono";
import type { Logger } from "pino";
import { z } from "zod";
import { chatMessage } from "../sdk/protocol/chat.ts";
import { HubError, parseOrThrow, toErrorResponse } from "../sdk/protocol/errors.ts";
import { type Fetcher, tagsHeader, taskHeader } from "../sdk/protocol/http.ts";
import { type AttemptResult, attemptInOrder, type Upstream } from "./attempts/attempt.ts";
import { relay } from "./attempts/relay.ts";
import type { GatewayLimits } from "./config.ts";
import { answerHeaders, streamedAnswer, wholeAnswer } from "./dialects/openai-chat/answer.ts";
import { type ChatCall, readChatCall, toChatCall } from "./dialects/openai-chat/request.ts";
import { listModels, retrieveModel } from "./dialects/openai-models/models.ts";
import { readJsonBody, refuseDeeper } from "./http/body.ts";
import { answerPreflight } from "./http/cors.ts";
import { baseHeaders, type Exchange, openExchange } from "./http/exchange.ts";
import { forward } from "./http/forward.ts";
import { readTags } from "./http/tags.ts";
import type { Identity } from "./identity/identity.ts";
import type { InFlight } from "./in-flight.ts";
import type { Accounts } from "./metering/types.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { classify } from "./routing/classify.ts";
import { makePlan, type Plan } from "./routing/plan.ts";
import {
  findTarget,
  type Resolved,
  resolve,
  resolveMix,
  type Scope,
  toPricedModel,
} from "./routing/resolve.ts";
import { reserve } from "./settling/reserve.ts";
import { Settling } from "./settling/settle.ts";
import type { SnapshotIndex } from "./snapshot/snapshot-index.ts";
import { countInput, guessInput, inputTokensBound } from "./tokens/count.ts";

export type AppParts = {
  identity: Identity;
  /** The policy in force. @throws HubError `database_unavailable` while there is none */
  snapshot: () => SnapshotIndex;
  /** Brings the policy up to date, after a change that was made through this door. */
  refreshSnapshot: () => Promise<void>;
  upstreams: ReadonlyMap<string, Upstream>;
  accounts: Accounts;
  registry: Fetcher;
  evals?: Fetcher | undefined;
  /** `/v1/organization/*`, `/api/reports/*` and `/api/requests`. */
  reports?: Fetcher | undefined;
  /** `/` and `/assets/*`. */
  dashboard?: Fetcher | undefined;
  inFlight: InFlight;
  metrics: GatewayMetrics;
  logger: Logger;
  limits: GatewayLimits;
  now: () => number;
};

type Env = { Variables: { exchange: Exchange } };

export function createApp(parts: AppParts): Hono<Env> {
  const app = new Hono<Env>();
  const headers = (c: Context<Env>) => baseHeaders(c.var.exchange, parts.now());
  const json = (c: Context<Env>, body: unknown) => Response.json(body, { headers: headers(c) });
  const scopeOf = (c: Context<Env>): Scope => ({
    snapshot: parts.snapshot(),
    projectId: parts.identity.identifyProject(c.req.header("authorization")).project.id,
  });
  const pass = (c: Context<Env>, name: string, fetcher: Fetcher | undefined) => {
    if (fetcher) return forward(c.req.raw, { name, fetcher }, headers(c));
    throw unknownUrl(c);
  };

  app.use(async (c, next) => {
    c.set("exchange", openExchange(parts.now));
    await next();
  });
  app.options("*", (c) => answerPreflight(c.req.raw, headers(c)));

  app.post("/v1/chat/completions", (c) =>
    parts.inFlight.admit(() => completeChat(c.req.raw, c.var.exchange, parts)),
  );
  app.get("/v1/models", (c) => json(c, listModels(scopeOf(c))));
  app.get("/v1/models/*", (c) => json(c, retrieveModel(modelIdOf(c), scopeOf(c))));
  app.post("/api/routes/explain", async (c) =>
    json(c, await explain(c.req.raw, scopeOf(c), parts)),
  );

  for (const path of ["/v1/organization/*", "/api/reports/*", "/api/requests", "/api/requests/*"]) {
    app.all(path, (c) => pass(c, "reports", parts.reports));
  }
  for (const path of ["/api/datasets", "/api/datasets/*", "/api/evals/*"]) {
    app.all(path, (c) => pass(c, "evals service", parts.evals));
  }
  app.all("/api/*", async (c) => {
    const response = await pass(c, "registry", parts.registry);
    // Whoever changed something may rely on it with the next request.
    if (c.req.method !== "GET" && response.ok) await parts.refreshSnapshot();
    return response;
  });

  app.get("/healthz", (c) => json(c, { status: "ok" }));
  app.get("/readyz", (c) =>
    json(c, { status: "ready", snapshotVersion: parts.snapshot().version }),
  );
  app.get("/metrics", async (c) => {
    const { registry } = parts.metrics;
    return new Response(await registry.metrics(), {
      headers: { ...headers(c), "content-type": registry.contentType },
    });
  });
  app.get("/", (c) => pass(c, "dashboard", parts.dashboard));
  app.get("/assets/*", (c) => pass(c, "dashboard", parts.dashboard));

  for (const [path, allowed] of knownPaths) {
    app.all(path, (c) => {
      throw methodNotAllowed(c, allowed);
    });
  }
  app.notFound((c) => toErrorResponse(unknownUrl(c), headers(c)));
  app.onError((error, c) => {
    const response = toErrorResponse(error, headers(c));
    recordRefusal(error, response.status, c, parts);
    return response;
  });
  return app;
}

/** A request's way. Before `reserve` nothing is held; from there on `settling` ends it exactly once. */
async function completeChat(
  request: Request,
  exchange: Exchange,
  parts: AppParts,
): Promise<Response> {
  const { accounts, limits, now } = parts;

  // identify
  const principal = parts.identity.identifyProject(request.headers.get("authorization"));
  const scope: Scope = { snapshot: parts.snapshot(), projectId: principal.project.id };
  // parse
  const call = await readChatCall(request, limits);
  const tags = readTags(request.headers.get(tagsHeader));
  // resolve, classify, plan
  const plan = planCall(call, request.headers.get(taskHeader), scope, parts);
  const defaultModel = defaultModelOf(plan, scope);
  // reserve
  const { requestId } = exchange;
  const reservation = await reserve(accounts, {
    requestId,
    principal,
    call,
    targets: plan.targets,
    limits,
  });
  const settling = new Settling(
    { exchange, principal, call, plan, defaultModel, tags, reservation },
    { ...parts, imageTokens: limits.imageTokens },
  );
  // attempt
  const result = await attemptInOrder({
    targets: plan.targets,
    call,
    context: { requestId, projectId: principal.project.id },
    client: request.signal,
    clientDeadlineMs: clientDeadlineMs(request, exchange),
    upstream: (name) => parts.upstreams.get(name),
    limits,
    now,
  });
  settling.attempted(result);
  // settle, record, answer
  const headersOf = (answered: Exclude<AttemptResult, { type: "failed" }>) => ({
    ...baseHeaders(exchange, now()),
    ...reservation.headers,
    ...answerHeaders(answered, plan.decision),
    ...(result.tried.length > 1 && { "x-switchyard-attempts": String(result.tried.length) }),
  });
  switch (result.type) {
    case "answer": {
      const { cost } = await settling.answered(result);
      return wholeAnswer(result.answer.bytes, headersOf(result), cost);
    }
    case "stream": {
      const ended = parts.inFlight.open();
      const body = relay(result.stream, {
        keepAliveMs: limits.keepAliveMs,
        onEnd: async (end) => {
          await settling.relayed(result, end);
          ended();
        },
      });
      return streamedAnswer(body, headersOf(result));
    }
    case "failed": {
      await settling.failed(result);
      return toErrorResponse(result.error, {
        ...baseHeaders(exchange, now()),
        ...reservation.headers,
      });
    }
    default:
      return result satisfies never;
  }
}

function planCall(
  call: ChatCall,
  task: string | null,
  scope: Scope,
  { limits, upstreams, now }: Pick<AppParts, "limits" | "upstreams" | "now">,
): Plan {
  const { model: requested, messages, metadata } = call.request;
  const resolved = withMix(resolve(requested, scope), call, scope);
  const route = resolved.type === "route" ? resolved.route : undefined;
  return makePlan({
    requested,
    resolved,
    classified: classify({ header: task, metadata, route, messages }),
    scope,
    upstream(name) {
      const upstream = upstreams.get(name);
      if (!upstream) return undefined;
      const { notConfigured, servesAdapters } = upstream.provider;
      return { notConfigured, servesAdapters, retryAfterMs: upstream.breaker.retryAfterMs() };
    },
    inputTokens({ model }) {
      const bound = inputTokensBound(call, limits.imageTokens);
      const fits = bound + (call.outputTokensMax ?? 0) <= (model.contextLength ?? bound);
      if (fits || model.tokenizer === undefined) {
        return { tokens: guessInput(call, limits.imageTokens), exact: false };
      }
      return { tokens: countInput(call, model.tokenizer, limits.imageTokens), exact: true };
    },
    outputTokensMax: call.outputTokensMax,
    attemptsMax: limits.attemptsMax,
    nowMs: now(),
  });
}

/** `adapters` in the body stands for weights, so it is part of what the request names. */
function withMix(resolved: Resolved, call: ChatCall, scope: Scope): Resolved {
  const field = call.body.adapters;
  if (field == null) return resolved;
  if (resolved.type === "route") {
    throw new HubError(
      "unsupported_parameter",
      "Unsupported parameter: 'adapters' mixes adapters over a base model, and the request names a route.",
      { param: "adapters" },
    );
  }
  const { target } = resolved;
  return { type: "target", target: { ...target, mix: resolveMix(field, target, scope) } };
}

/** `POST /api/routes/explain`: the plan for a request that is not sent anywhere. */
async function explain(request: Request, scope: Scope, parts: AppParts): Promise<unknown> {
  const read = await readJsonBody(request, parts.limits.requestBytesMax);
  const { task, ...body } = parseOrThrow(explainRequest, read.value);
  refuseDeeper(read, parts.limits.nestingMax);
  return planCall(toChatCall(body, read.bytes), task ?? null, scope, parts).decision;
}

function defaultModelOf({ decision }: Plan, scope: Scope) {
  const route = decision.route && scope.snapshot.route(scope.projectId, decision.route);
  const target = route ? findTarget(route.defaultModel, scope) : undefined;
  return target && toPricedModel(target);
}

/**
 * Official SDKs tell after how many seconds they give up; working on after that helps nobody. Node's counts
 * until the answer begins, Python's until its next byte, so neither bounds how long a stream may be.
 */
function clientDeadlineMs(request: Request, exchange: Exchange): number | undefined {
  const { headers } = request;
  const seconds = Number(
    headers.get("x-stainless-timeout") ?? headers.get("x-stainless-read-timeout") ?? Number.NaN,
  );
  return seconds > 0 ? exchange.startedAtMs + seconds * 1000 : undefined;
}

/** Ids hold `/`, `:` and `@`, and come as they are or percent-encoded. */
function modelIdOf(c: Context): string {
  const id = new URL(c.req.url).pathname.slice("/v1/models/".length);
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

/** What never came to be settled: wrong keys, wrong requests, limits, and our own mistakes. */
function recordRefusal(
  error: unknown,
  status: number,
  c: Context<Env>,
  { metrics, logger }: AppParts,
): void {
  const code = error instanceof HubError ? error.code : "internal_error";
  const facts = { requestId: c.var.exchange.requestId, path: c.req.path, status, code };
  if (c.req.path.startsWith("/v1/chat/")) {
    metrics.requests.inc({ model: "", outcome: "refused", status, code });
  }
  if (error instanceof HubError) logger.info(facts, "refused");
  else logger.error({ ...facts, error: (error as Error)?.stack ?? String(error) }, "failed");
}

function unknownUrl(c: Context): HubError {
  return new HubError(
    "unknown_url",
    `Unknown request URL: ${c.req.method} ${c.req.path}. Please check the URL for typos, or see the documentation of this Switchyard.`,
  );
}

function methodNotAllowed(c: Context, allowed: string): HubError {
  return new HubError(
    "method_not_allowed",
    `Not allowed to ${c.req.method} on ${c.req.path}. Use ${allowed}.`,
  );
}

const explainRequest = z.looseObject({
  model: z.string(),
  messages: z.array(chatMessage).min(1),
  task: z.string().nullish(),
});

const knownPaths = [
  ["/v1/chat/completions", "POST"],
  ["/v1/models", "GET"],
  ["/v1/models/*", "GET"],
  ["/healthz", "GET"],
  ["/readyz", "GET"],
  ["/metrics", "GET"],
  ["/", "GET"],
] as const;
