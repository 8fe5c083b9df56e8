/** The gateway's door: every address it answers, and a request's way through it, in order. */
import { hash, timingSafeEqual } from "node:crypto";
import { type Context, Hono } from "hono";
import type { Logger } from "pino";
import { HubError } from "../sdk/protocol/errors.ts";
import type { Fetcher } from "../sdk/protocol/http.ts";
import { answerCall, type ReadCall } from "./answer-call.ts";
import type { Upstream } from "./attempts/upstream.ts";
import { mountBackground } from "./background/routes.ts";
import type { BackgroundRuns } from "./background/runs.ts";
import { mountBatches } from "./batches/routes.ts";
import type { BatchStore } from "./batches/store.ts";
import type { GatewayLimits } from "./config.ts";
import type { ContentLog } from "./content-log/content-log.ts";
import { mountContents } from "./content-log/routes.ts";
import { mountConversations } from "./conversations/routes.ts";
import type { ConversationStore } from "./conversations/store.ts";
import { countTokens } from "./count-tokens.ts";
import { anthropicMessages } from "./dialects/anthropic-messages/index.ts";
import { modelInfo, pageOfModels } from "./dialects/anthropic-messages/models.ts";
import { readCountCall, readMessagesCall } from "./dialects/anthropic-messages/request.ts";
import { bedrockConverse } from "./dialects/bedrock-converse/index.ts";
import { parseConversePath, readConverseCall } from "./dialects/bedrock-converse/request.ts";
import type { Dialect } from "./dialects/dialect.ts";
import { isGeminiPath, parseGeminiAddress, wantsEvents } from "./dialects/gemini/address.ts";
import { gemini, geminiArray } from "./dialects/gemini/index.ts";
import { listGeminiModels, showGeminiModel } from "./dialects/gemini/models.ts";
import { readGeminiCall, readGeminiCountCall } from "./dialects/gemini/request.ts";
import { openAiChat } from "./dialects/openai-chat/index.ts";
import { readChatCall } from "./dialects/openai-chat/request.ts";
import { mediaRoutes } from "./dialects/openai-media/routes.ts";
import { listModels, retrieveModel } from "./dialects/openai-models/models.ts";
import {
  openAiCompletions,
  openAiEmbeddings,
  readCompletionsCall,
  readEmbeddingsCall,
} from "./dialects/openai-passing/request.ts";
import { toCompaction } from "./dialects/openai-responses/compaction.ts";
import { openAiResponses } from "./dialects/openai-responses/index.ts";
import { readCompactCall, readResponsesCall } from "./dialects/openai-responses/request.ts";
import { explain } from "./explain.ts";
import { mountFiles } from "./files/routes.ts";
import type { FileStore } from "./files/store.ts";
import type { UploadStore } from "./files/uploads.ts";
import { rehearse } from "./guardrails/rehearse.ts";
import { refusal } from "./http/answers.ts";
import { clientAddressOf } from "./http/client-address.ts";
import { answerPreflight } from "./http/cors.ts";
import { credentialOf } from "./http/credential.ts";
import type { Door } from "./http/door.ts";
import { baseHeaders, type Exchange, openExchange } from "./http/exchange.ts";
import type { Forms } from "./http/form.ts";
import { forward } from "./http/forward.ts";
import { pathOf } from "./http/path.ts";
import { unknownUrl } from "./http/unknown-url.ts";
import type { Idempotency } from "./idempotency/idempotency.ts";
import type { Identity } from "./identity/identity.ts";
import type { WrongKeys } from "./identity/wrong-keys.ts";
import type { InFlight } from "./in-flight.ts";
import type { Accounts } from "./metering/types.ts";
import type { GatewayMetrics } from "./metrics.ts";
import type { OtlpExporter } from "./observing/otlp.ts";
import { openApiDocument } from "./openapi/document.ts";
import { mountSignIn, type SignIn } from "./people/routes.ts";
import type { ResponseCache } from "./response-cache/response-cache.ts";
import { mountResponseCache } from "./response-cache/routes.ts";
import { mountResponses } from "./responses/routes.ts";
import type { ResponseStore } from "./responses/store.ts";
import { type Scope, scopeOf } from "./routing/resolve.ts";
import type { SnapshotIndex } from "./snapshot/snapshot-index.ts";
import { mountStoredCompletions } from "./stored-completions/routes.ts";
import type { CompletionStore } from "./stored-completions/store.ts";

export type AppParts = {
  identity: Identity;
  wrongKeys: WrongKeys;
  /** The policy in force. @throws HubError `database_unavailable` while there is none */
  snapshot: () => SnapshotIndex;
  /** Brings the policy up to date, after a change that was made through this door. */
  refreshSnapshot: () => Promise<void>;
  upstreams: ReadonlyMap<string, Upstream>;
  accounts: Accounts;
  registry: Fetcher;
  operatorKey: string;
  /** Where people log in; absent where only keys are known. */
  signIn?: SignIn | undefined;
  evals?: Fetcher | undefined;
  /** `/v1/organization/*`, `/api/reports/*` and `/api/requests`. */
  reports?: Fetcher | undefined;
  /** `/` and `/assets/*`. */
  dashboard?: Fetcher | undefined;
  /** What is kept for clients that ask for it; absent keeps nothing. */
  kept?: KeptStores | undefined;
  /** Runs responses that nobody waits for; there where something is kept. */
  background?: BackgroundRuns | undefined;
  /** Takes in requests that come as forms. */
  forms: Forms;
  /** Honours `Idempotency-Key`; absent takes no notice of it. */
  idempotency?: Idempotency | undefined;
  /** Gives answers again to who asks for that; absent takes no notice. */
  responseCache?: ResponseCache | undefined;
  /** What projects let be kept of prompts and answers; absent keeps none. */
  contentLog?: ContentLog | undefined;
  /** `/v1/files`, `/v1/uploads` and `/v1/batches`; absent keeps none. */
  filing?: Filing | undefined;
  inFlight: InFlight;
  metrics: GatewayMetrics;
  /** Where traces and metrics are sent; absent sends none. */
  telemetry?: OtlpExporter | undefined;
  logger: Logger;
  limits: GatewayLimits;
  now: () => number;
  /** Uniform in [0, 1). */
  random: () => number;
};

export type KeptStores = {
  responses: ResponseStore;
  conversations: ConversationStore;
  completions: CompletionStore;
};

export type Filing = {
  files: FileStore;
  uploads: UploadStore;
  batches: BatchStore;
  /** Has the batches looked at now: one was created or cancelled. */
  wake: () => void;
};

/** `dialect` is how errors are told; other addresses than a dialect's own tell them as OpenAI does. */
type Env = {
  Variables: {
    exchange: Exchange;
    dialect: Dialect;
    /** The token of a person who is logged in and may do this. */
    session: string | undefined;
  };
};

export function createApp(parts: AppParts): Hono<Env> {
  const { kept, background, limits } = parts;
  const app = new Hono<Env>();
  const headers = (c: Context<Env>) => baseHeaders(c.var.exchange, parts.now());
  const json = (c: Context<Env>, body: unknown) => Response.json(body, { headers: headers(c) });
  const scopeFor = (c: Context<Env>): Scope =>
    scopeOf(parts.identity.identifyProject(credentialOf(c.req.raw)), parts.snapshot());
  const pass = (c: Context<Env>, name: string, fetcher: Fetcher | undefined) => {
    const { session } = c.var;
    if (fetcher) return forward(c.req.raw, { name, fetcher, session }, headers(c));
    throw unknownUrl(c.req);
  };

  const door: Door<Env> = {
    principalOf: (c) => parts.identity.identifyProject(credentialOf(c.req.raw)),
    headers,
    json,
    admit: (work) => parts.inFlight.admit(work),
    refuseOthers(path, allowed) {
      app.all(path, (c) => {
        throw methodNotAllowed(c, allowed);
      });
    },
  };

  app.use(async (c, next) => {
    c.set("exchange", openExchange(parts.now));
    c.set("dialect", dialectOfErrors(c.req.raw));
    if (!methods.has(c.req.method)) throw methodNotAllowed(c, [...methods].join(", "));
    parts.identity.refuseOutside(credentialOf(c.req.raw), {
      method: c.req.method,
      path: c.req.path,
      address: clientAddressOf(c.req.raw),
    });
    await next();
    c.var.dialect.addHeaders?.(c.res.headers, parts.now());
    // Hono leaves the body out of an answer to HEAD, and would leave a stream open that nobody reads.
    if (c.req.method === "HEAD") await c.res.body?.cancel();
  });
  app.options("*", (c) => answerPreflight(c.req.raw, headers(c)));

  const answer = (c: Context<Env>, dialect: Dialect, read: ReadCall) => {
    c.set("dialect", dialect);
    const { exchange } = c.var;
    return parts.inFlight.admit(() => answerCall(c.req.raw, { exchange, read }, parts));
  };
  app.post("/v1/chat/completions", (c) =>
    answer(c, openAiChat, (projectId) =>
      readChatCall(c.req.raw, { limits, projectId, store: kept?.completions }),
    ),
  );
  app.post("/v1/completions", (c) =>
    answer(c, openAiCompletions, () => readCompletionsCall(c.req.raw, parts.limits)),
  );
  app.post("/v1/embeddings", (c) =>
    answer(c, openAiEmbeddings, () => readEmbeddingsCall(c.req.raw, parts.limits)),
  );
  for (const { path, dialect, read } of mediaRoutes) {
    app.post(path, (c) => answer(c, dialect, () => read(c.req.raw, parts)));
  }
  const readResponses = (c: Context<Env>) => (projectId: string) =>
    readResponsesCall(c.req.raw, {
      limits,
      projectId,
      store: kept?.responses,
      conversations: kept?.conversations,
    });
  app.post("/v1/responses", (c) => answer(c, openAiResponses, readResponses(c)));
  app.post("/v1/responses/compact", async (c) => {
    const read: ReadCall = (projectId) =>
      readCompactCall(c.req.raw, {
        limits,
        projectId,
        store: kept?.responses,
        conversations: undefined,
      });
    const response = await answer(c, openAiResponses, read);
    if (!response.ok) return response;
    const compaction = Buffer.from(JSON.stringify(toCompaction(await response.json())));
    return new Response(compaction, response);
  });
  if (parts.filing) {
    mountFiles(app, door, { ...parts.filing, limits });
    mountBatches(app, door, { ...parts.filing, limits });
  }
  app.post("/v1/messages", (c) =>
    answer(c, anthropicMessages, () => readMessagesCall(c.req.raw, parts.limits)),
  );
  const count = (
    c: Context<Env>,
    { read, field, more }: { read: ReadCall; field: string; more?: object },
  ) =>
    parts.inFlight.admit(async () => {
      const principal = parts.identity.identifyProject(credentialOf(c.req.raw));
      const scope = scopeOf(principal, parts.snapshot());
      const { requestId } = c.var.exchange;
      const call = await read(scope.projectId);
      const asked = { scope, principal, requestId, client: c.req.raw.signal };
      const { tokens, by, ...limited } = await countTokens(call, asked, parts);
      const counted = { ...headers(c), ...limited.headers, "x-switchyard-counted-by": by };
      return Response.json({ ...more, [field]: tokens }, { headers: counted });
    });
  app.post("/v1/responses/input_tokens", (c) =>
    count(c, {
      read: readResponses(c),
      field: "input_tokens",
      more: { object: "response.input_tokens" },
    }),
  );
  app.post("/v1/messages/count_tokens", (c) =>
    count(c, { read: () => readCountCall(c.req.raw, parts.limits), field: "input_tokens" }),
  );
  app.post("/model/*", (c) => {
    const asked = parseConversePath(new URL(c.req.url).pathname);
    if (!asked) throw unknownUrl(c.req);
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
    json(c, listGeminiModels(new URL(c.req.url).searchParams, scopeFor(c))),
  );
  app.get("/v1beta/models/*", (c) => {
    const { pathname } = new URL(c.req.url);
    const address = parseGeminiAddress(pathname, { withMethod: false });
    return json(c, showGeminiModel(address?.model ?? "", scopeFor(c)));
  });
  app.get("/v1/models", (c) => {
    const scope = scopeFor(c);
    if (c.var.dialect !== anthropicMessages) return json(c, listModels(scope));
    return json(c, pageOfModels(new URL(c.req.url).searchParams, scope));
  });
  app.get("/v1/models/*", (c) => {
    const show = c.var.dialect === anthropicMessages ? modelInfo : retrieveModel;
    return json(c, show(modelIdOf(c), scopeFor(c)));
  });
  if (kept && background) {
    mountBackground(app, door, background);
    mountResponses(app, door, kept.responses);
    mountConversations(app, door, { store: kept.conversations, limits, now: parts.now });
    mountStoredCompletions(app, door, { store: kept.completions, limits });
  }
  mountSignIn(app, parts.signIn, { headers, now: parts.now });
  for (const path of managedPaths) {
    const { people } = parts.signIn ?? {};
    app.use(path, async (c, next) => {
      const credential = credentialOf(c.req.raw);
      const token = people?.tokenOf(c.req.raw, credential);
      if (token !== undefined) await people?.admit(token, c.req.raw);
      // What is no key is refused here, and costs neither the registry nor its database anything.
      else if (credential !== null && !isOperators(credential, parts)) {
        parts.identity.identify(credential);
      }
      c.set("session", token);
      await next();
    });
  }
  const administrator = async (request: Request) => {
    const { identity, signIn } = parts;
    const token = signIn?.people.tokenOf(request, credentialOf(request));
    // The table of roles has been asked.
    if (signIn && token !== undefined) return (await signIn.people.personOf(token)).keyId;
    return identity.identifyAdmin(credentialOf(request)).id;
  };
  const { responseCache: cache, contentLog: log } = parts;
  if (cache) mountResponseCache(app, door, { ...parts, cache, administrator });
  if (log) mountContents(app, door, { ...parts, log, administrator });
  app.post("/api/guardrails/test", (c) =>
    parts.inFlight.admit(async () => {
      const principal = door.principalOf(c);
      const { requestId } = c.var.exchange;
      // It costs no tokens, and as much work as the guards of a request.
      const admitted = await parts.accounts.admit({ requestId, principal, models: [] });
      try {
        const told = await rehearse(c.req.raw, principal, limits);
        return Response.json(told, { headers: { ...headers(c), ...admitted.headers } });
      } finally {
        await admitted.leave();
      }
    }),
  );
  app.post("/api/routes/explain", async (c) =>
    json(c, await explain(c.req.raw, scopeFor(c), parts)),
  );

  for (const path of reportPaths) app.all(path, (c) => pass(c, "reports", parts.reports));
  for (const path of ["/api/datasets", "/api/datasets/*", "/api/evals/*"]) {
    app.all(path, (c) => pass(c, "evals service", parts.evals));
  }
  for (const path of managedPaths) {
    app.all(path, async (c) => {
      const response = await forward(
        c.req.raw,
        {
          name: "registry",
          fetcher: parts.registry,
          vouchedBy: parts.operatorKey,
          sealsContents: parts.contentLog?.canSeal === true,
          session: c.var.session,
        },
        headers(c),
      );
      // Whoever changed something may rely on it with the next request.
      if (c.req.method !== "GET" && response.ok) await parts.refreshSnapshot();
      return response;
    });
  }

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
  app.get("/openapi.json", (c) => json(c, openApiDocument()));
  app.get("/", (c) => pass(c, "dashboard", parts.dashboard));
  app.get("/assets/*", (c) => pass(c, "dashboard", parts.dashboard));

  for (const [path, allowed] of kept ? [...keptPaths, ...knownPaths] : knownPaths) {
    door.refuseOthers(path, allowed);
  }
  const refuse = (c: Context<Env>, error: unknown) => {
    const { dialect, exchange } = c.var;
    return refusal(error, { dialect, requestId: exchange.requestId }, headers(c));
  };
  app.notFound((c) => refuse(c, unknownUrl(c.req)));
  app.onError((error, c) => {
    const tooMany =
      error instanceof HubError
        ? parts.wrongKeys.hold(error, clientAddressOf(c.req.raw))
        : undefined;
    const response = refuse(c, tooMany ?? error);
    // A flood of wrong keys is a number in the metrics, and not a line each.
    if (tooMany) parts.metrics.wrongKeysHeld.inc();
    else recordRefusal(error, response.status, c, parts);
    return response;
  });
  return app;
}

/** Of another service of this installation. */
function isOperators(credential: string, { operatorKey }: AppParts): boolean {
  const digest = (text: string) => hash("sha256", text, "buffer");
  return timingSafeEqual(digest(credential), digest(`Bearer ${operatorKey}`));
}

/** Whose errors a client understands, by what it asks for or says of itself. */
function dialectOfErrors({ url, headers }: Request): Dialect {
  const pathname = pathOf(url);
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
    c.req.method === "POST" &&
    (/^\/(?:v1\/(?:chat\/completions$|completions|embeddings|responses(?:\/compact)?$|messages)|model\/)/.test(
      c.req.path,
    ) ||
      mediaRoutes.some(({ path }) => path === c.req.path) ||
      isGeminiPath(c.req.path));
  if (asksModel) {
    metrics.requests.add(1, "", "refused", String(status), code);
  }
  if (error instanceof HubError) logger.info(facts, "refused");
  else logger.error({ ...facts, error: (error as Error)?.stack ?? String(error) }, "failed");
}

function methodNotAllowed(c: Context, allowed: string): HubError {
  return new HubError(
    "method_not_allowed",
    `Not allowed to ${c.req.method} on ${c.req.path}. Use ${allowed}.`,
  );
}

/** Others, such as TRACE, are nothing that could be handed on. */
const methods: ReadonlySet<string> = new Set([
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
]);

/** AI Studio's, and Vertex's; SDKs put either under more than one version. */
const geminiPaths = [
  "/v1beta/models/*",
  "/v1/models/*",
  ...["/v1", "/v1beta1"].flatMap((version) => [`${version}/publishers/*`, `${version}/projects/*`]),
];

const managedPaths = ["/api/*", "/v1/organization/*"];
const reportPaths = [
  "/v1/organization/usage/*",
  "/v1/organization/costs",
  "/api/reports/*",
  "/api/requests",
  "/api/requests/*",
  "/api/budgets",
  "/api/budgets/*",
];

const keptPaths = [
  ["/v1/chat/completions", "GET or POST"],
  ["/v1/chat/completions/:id", "GET, POST or DELETE"],
  ["/v1/chat/completions/:id/messages", "GET"],
  ["/v1/responses/:id", "GET or DELETE"],
  ["/v1/responses/:id/input_items", "GET"],
  ["/v1/responses/:id/cancel", "POST"],
  ["/v1/conversations", "POST"],
  ["/v1/conversations/:id", "GET, POST or DELETE"],
  ["/v1/conversations/:id/items", "GET or POST"],
  ["/v1/conversations/:id/items/:item", "GET or DELETE"],
] as const;

const knownPaths = [
  ["/v1/chat/completions", "POST"],
  ["/v1/completions", "POST"],
  ["/v1/embeddings", "POST"],
  ...mediaRoutes.map(({ path }) => [path, "POST"] as const),
  ["/v1/responses", "POST"],
  ["/v1/responses/input_tokens", "POST"],
  ["/v1/responses/compact", "POST"],
  ["/v1/messages", "POST"],
  ["/v1/messages/count_tokens", "POST"],
  ["/v1/models", "GET"],
  ["/v1/models/*", "GET"],
  ["/healthz", "GET"],
  ["/readyz", "GET"],
  ["/metrics", "GET"],
  ["/openapi.json", "GET"],
  ["/", "GET"],
] as const;
