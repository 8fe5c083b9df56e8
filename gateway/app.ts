/** The gateway's door: every address it answers, and a request's way through it, in order. */
import { type Context, Hono } from "hono";
import type { Logger } from "pino";
import { z } from "zod";
import { chatMessage } from "../sdk/protocol/chat.ts";
import { HubError, parseOrThrow } from "../sdk/protocol/errors.ts";
import type { Fetcher } from "../sdk/protocol/http.ts";
import { answerCall, planCall, type ReadCall } from "./answer-call.ts";
import type { Upstream } from "./attempts/attempt.ts";
import type { GatewayLimits } from "./config.ts";
import { countTokens } from "./count-tokens.ts";
import { anthropicMessages } from "./dialects/anthropic-messages/index.ts";
import { modelInfo, pageOfModels } from "./dialects/anthropic-messages/models.ts";
import { readCountCall, readMessagesCall } from "./dialects/anthropic-messages/request.ts";
import { bedrockConverse } from "./dialects/bedrock-converse/index.ts";
import { parseConversePath, readConverseCall } from "./dialects/bedrock-converse/request.ts";
import type { Call, Dialect } from "./dialects/dialect.ts";
import { isGeminiPath, parseGeminiAddress, wantsEvents } from "./dialects/gemini/address.ts";
import { gemini, geminiArray } from "./dialects/gemini/index.ts";
import { listGeminiModels, showGeminiModel } from "./dialects/gemini/models.ts";
import { readGeminiCall, readGeminiCountCall } from "./dialects/gemini/request.ts";
import { openAiChat } from "./dialects/openai-chat/index.ts";
import { readChatCall, toChatCall } from "./dialects/openai-chat/request.ts";
import { listModels, retrieveModel } from "./dialects/openai-models/models.ts";
import {
  openAiCompletions,
  openAiEmbeddings,
  readCompletionsCall,
  readEmbeddingsCall,
} from "./dialects/openai-passing/request.ts";
import { openAiResponses } from "./dialects/openai-responses/index.ts";
import { readResponsesCall } from "./dialects/openai-responses/request.ts";
import { refusal } from "./http/answers.ts";
import { readJsonBody, refuseDeeper } from "./http/body.ts";
import { answerPreflight } from "./http/cors.ts";
import { credentialOf } from "./http/credential.ts";
import { baseHeaders, type Exchange, openExchange } from "./http/exchange.ts";
import { forward } from "./http/forward.ts";
import type { Identity } from "./identity/identity.ts";
import type { InFlight } from "./in-flight.ts";
import type { Accounts } from "./metering/types.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { deleteResponse, listInputItems, retrieveResponse } from "./responses/routes.ts";
import type { ResponseStore } from "./responses/store.ts";
import type { Scope } from "./routing/resolve.ts";
import type { SnapshotIndex } from "./snapshot/snapshot-index.ts";

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
  /** Keeps responses for `previous_response_id`; absent keeps none. */
  responses?: ResponseStore | undefined;
  inFlight: InFlight;
  metrics: GatewayMetrics;
  logger: Logger;
  limits: GatewayLimits;
  now: () => number;
};

/** `dialect` is how errors are told; other addresses than a dialect's own tell them as OpenAI does. */
type Env = { Variables: { exchange: Exchange; dialect: Dialect } };

export function createApp(parts: AppParts): Hono<Env> {
  const app = new Hono<Env>();
  const headers = (c: Context<Env>) => baseHeaders(c.var.exchange, parts.now());
  const json = (c: Context<Env>, body: unknown) => Response.json(body, { headers: headers(c) });
  const scopeOf = (c: Context<Env>): Scope => ({
    snapshot: parts.snapshot(),
    projectId: parts.identity.identifyProject(credentialOf(c.req.raw)).project.id,
  });
  const pass = (c: Context<Env>, name: string, fetcher: Fetcher | undefined) => {
    if (fetcher) return forward(c.req.raw, { name, fetcher }, headers(c));
    throw unknownUrl(c);
  };

  app.use(async (c, next) => {
    c.set("exchange", openExchange(parts.now));
    c.set("dialect", dialectOfErrors(c.req.raw));
    await next();
    c.var.dialect.addHeaders?.(c.res.headers, parts.now());
  });
  app.options("*", (c) => answerPreflight(c.req.raw, headers(c)));

  const answer = (c: Context<Env>, dialect: Dialect, read: ReadCall) => {
    c.set("dialect", dialect);
    const { exchange } = c.var;
    return parts.inFlight.admit(() => answerCall(c.req.raw, { exchange, read }, parts));
  };
  app.post("/v1/chat/completions", (c) =>
    answer(c, openAiChat, () => readChatCall(c.req.raw, parts.limits)),
  );
  app.post("/v1/completions", (c) =>
    answer(c, openAiCompletions, () => readCompletionsCall(c.req.raw, parts.limits)),
  );
  app.post("/v1/embeddings", (c) =>
    answer(c, openAiEmbeddings, () => readEmbeddingsCall(c.req.raw, parts.limits)),
  );
  app.post("/v1/responses", (c) =>
    answer(c, openAiResponses, (projectId) =>
      readResponsesCall(c.req.raw, { limits: parts.limits, projectId, store: parts.responses }),
    ),
  );
  const kept = (c: Context<Env>) => {
    const { projectId } = scopeOf(c);
    if (!parts.responses) throw unknownUrl(c);
    return { store: parts.responses, projectId, id: c.req.param("id") ?? "" };
  };
  app.get("/v1/responses/:id", async (c) => json(c, await retrieveResponse(kept(c))));
  app.delete("/v1/responses/:id", async (c) => json(c, await deleteResponse(kept(c))));
  app.get("/v1/responses/:id/input_items", async (c) =>
    json(c, await listInputItems(kept(c), c.req.url)),
  );
  app.post("/v1/messages", (c) =>
    answer(c, anthropicMessages, () => readMessagesCall(c.req.raw, parts.limits)),
  );
  const count = (c: Context<Env>, { read, field }: { read: () => Promise<Call>; field: string }) =>
    parts.inFlight.admit(async () => {
      const scope = scopeOf(c);
      const call = await read();
      const { tokens, by } = await countTokens(call, { scope, client: c.req.raw.signal }, parts);
      const counted = { ...headers(c), "x-switchyard-counted-by": by };
      return Response.json({ [field]: tokens }, { headers: counted });
    });
  app.post("/v1/messages/count_tokens", (c) =>
    count(c, { read: () => readCountCall(c.req.raw, parts.limits), field: "input_tokens" }),
  );
  app.post("/model/*", (c) => {
    const asked = parseConversePath(new URL(c.req.url).pathname);
    if (!asked) throw unknownUrl(c);
    return answer(c, bedrockConverse, () => readConverseCall(c.req.raw, asked, parts.limits));
  });
  for (const path of geminiPaths) {
    app.post(path, (c, next) => {
      const url = new URL(c.req.url);
      const { model = "", method } = parseGeminiAddress(url.pathname, { withMethod: true }) ?? {};
      const read = (dialect: Dialect, stream: boolean) => () =>
        readGeminiCall(c.req.raw, { model, stream, dialect }, parts.limits);
      switch (method) {
        case "generateContent":
          return answer(c, gemini, read(gemini, false));
        case "streamGenerateContent": {
          const dialect = wantsEvents(url.searchParams) ? gemini : geminiArray;
          return answer(c, dialect, read(dialect, true));
        }
        case "countTokens": {
          const read = () => readGeminiCountCall(c.req.raw, model, parts.limits);
          return count(c, { read, field: "totalTokens" });
        }
        default:
          return next();
      }
    });
  }
  app.get("/v1beta/models", (c) =>
    json(c, listGeminiModels(new URL(c.req.url).searchParams, scopeOf(c))),
  );
  app.get("/v1beta/models/*", (c) => {
    const { pathname } = new URL(c.req.url);
    const address = parseGeminiAddress(pathname, { withMethod: false });
    return json(c, showGeminiModel(address?.model ?? "", scopeOf(c)));
  });
  app.get("/v1/models", (c) => {
    const scope = scopeOf(c);
    if (c.var.dialect !== anthropicMessages) return json(c, listModels(scope));
    return json(c, pageOfModels(new URL(c.req.url).searchParams, scope));
  });
  app.get("/v1/models/*", (c) => {
    const show = c.var.dialect === anthropicMessages ? modelInfo : retrieveModel;
    return json(c, show(modelIdOf(c), scopeOf(c)));
  });
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
  const refuse = (c: Context<Env>, error: unknown) => {
    const { dialect, exchange } = c.var;
    return refusal(error, { dialect, requestId: exchange.requestId }, headers(c));
  };
  app.notFound((c) => refuse(c, unknownUrl(c)));
  app.onError((error, c) => {
    const response = refuse(c, error);
    recordRefusal(error, response.status, c, parts);
    return response;
  });
  return app;
}

/** `POST /api/routes/explain`: the plan for a request that is not sent anywhere. */
async function explain(request: Request, scope: Scope, parts: AppParts): Promise<unknown> {
  const read = await readJsonBody(request, parts.limits);
  const { task, ...body } = parseOrThrow(explainRequest, read.value);
  refuseDeeper(read, parts.limits.nestingMax);
  return planCall(toChatCall(body, read.bytes), task ?? null, scope, parts).decision;
}

/** Whose errors a client understands, by what it asks for or says of itself. */
function dialectOfErrors({ url, headers }: Request): Dialect {
  const { pathname } = new URL(url);
  if (isGeminiPath(pathname)) return gemini;
  if (pathname.startsWith("/model/")) return bedrockConverse;
  const isAnthropics = pathname.startsWith("/v1/messages") || headers.has("anthropic-version");
  return isAnthropics ? anthropicMessages : openAiChat;
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
  const asksModel =
    /^\/(?:v1\/(?:chat\/|completions|embeddings|responses$|messages)|model\/)/.test(c.req.path) ||
    isGeminiPath(c.req.path);
  if (asksModel) {
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

/** AI Studio's, and Vertex's; SDKs put either under more than one version. */
const geminiPaths = [
  "/v1beta/models/*",
  "/v1/models/*",
  ...["/v1", "/v1beta1"].flatMap((version) => [`${version}/publishers/*`, `${version}/projects/*`]),
];

const knownPaths = [
  ["/v1/chat/completions", "POST"],
  ["/v1/completions", "POST"],
  ["/v1/embeddings", "POST"],
  ["/v1/responses", "POST"],
  ["/v1/responses/:id", "GET or DELETE"],
  ["/v1/responses/:id/input_items", "GET"],
  ["/v1/messages", "POST"],
  ["/v1/messages/count_tokens", "POST"],
  ["/v1/models", "GET"],
  ["/v1/models/*", "GET"],
  ["/healthz", "GET"],
  ["/readyz", "GET"],
  ["/metrics", "GET"],
  ["/", "GET"],
] as const;
