/** The adapter-server's HTTP surface: OpenAI's chat completions, vLLM's operator routes and metrics. */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HubError, toErrorResponse } from "../sdk/protocol/errors.ts";
import { servedModelHeader, tenantHeader, timeoutHeader } from "../sdk/protocol/http.ts";
import { newId, requestId } from "../sdk/protocol/ids.ts";
import { answerChat } from "./chat/complete.ts";
import { readChatRequest } from "./chat/request.ts";
import { answerText } from "./completions/complete.ts";
import { readTextRequest } from "./completions/request.ts";
import type { ServerLimits } from "./config.ts";
import { answerEmbeddings } from "./embeddings/answer.ts";
import { readEmbeddingsRequest } from "./embeddings/request.ts";
import type { Caller } from "./generation/generate.ts";
import { identify, requireOperator } from "./identity.ts";
import { AdapterLabels } from "./lora/adapter-labels.ts";
import { registerAdapterMetrics } from "./lora/adapter-metrics.ts";
import { loadForSglang, unloadForSglang } from "./lora/sglang-routes.ts";
import { loadLoraAdapter, unloadLoraAdapter, wrongMethod } from "./lora/vllm-routes.ts";
import { loraxPaths, toLoraxError } from "./lorax/errors.ts";
import { answerLorax, loraxInfo } from "./lorax/generate.ts";
import { Metrics } from "./metrics.ts";
import { type AppParts, contextLengthOf, noSuchModel } from "./parts.ts";
import { detokenize, tokenize } from "./tokenize/routes.ts";

type Env = { Variables: { requestId: string; isOperator: boolean } };

export function createApp(parts: AppParts): Hono<Env> {
  const { model, engine, adapters, limits } = parts;
  const labels = new AdapterLabels(
    limits.adapterLabelsMax,
    (digest) => adapters.nameOf(digest)?.name,
  );
  const metrics = new Metrics({
    modelName: model.id,
    engineStats: () => engine.stats(),
    adapterLabels: labels,
    slots: engine.facts.slots,
    onSteps: (listener) => engine.onSteps(listener),
    cache: {
      blockSize: engine.facts.blockSize,
      // One block of the pool belongs to nobody.
      blocks: engine.facts.blocks - 1,
      type: limits.kvCacheType,
      isShared: parts.prefixCache,
    },
    nowMs: parts.nowMs,
    monotonicMs: parts.monotonicMs,
  });
  registerAdapterMetrics({ registry: metrics.registry, adapters, engine, labels });
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

  const reading = { baseId: model.id, vocabSize: engine.facts.dims.vocabSize, ...limits };
  app.post("/v1/chat/completions", async (c) => {
    const plan = readChatRequest(await readJson(c.req.raw), reading);
    return answerChat({ ...parts, metrics }, plan, callerOf(c, limits));
  });
  app.post("/v1/completions", async (c) => {
    const plan = readTextRequest(await readJson(c.req.raw), reading);
    return answerText({ ...parts, metrics }, plan, callerOf(c, limits));
  });
  // vLLM has them at the root, and a gateway knows this server by an address that ends in /v1.
  for (const prefix of ["", "/v1"]) {
    app.post(`${prefix}/tokenize`, async (c) => c.json(tokenize(parts, await readJson(c.req.raw))));
    app.post(`${prefix}/detokenize`, async (c) =>
      c.json(detokenize(parts, await readJson(c.req.raw))),
    );
  }
  app.post("/v1/embeddings", async (c) => {
    const plan = readEmbeddingsRequest(await readJson(c.req.raw), reading);
    return answerEmbeddings({ ...parts, metrics }, plan, callerOf(c, limits));
  });

  for (const [path, variant] of [
    ["/generate", "whole"],
    ["/generate_stream", "stream"],
    ["/", "either"],
  ] as const) {
    app.post(path, async (c) => {
      const caller = callerOf(c, limits);
      return answerLorax({ ...parts, metrics }, await readJson(c.req.raw), {
        ...{ limits: reading, variant, caller },
      });
    });
  }
  app.get("/info", (c) => c.json(loraxInfo({ ...parts, metrics })));

  app.get("/v1/models", (c) => c.json({ object: "list", data: modelCards(parts) }));
  app.get("/v1/models/:id{.+}", (c) => {
    const card = modelCards(parts).find(({ id }) => id === c.req.param("id"));
    if (!card) throw noSuchModel(c.req.param("id"));
    return c.json(card);
  });

  const baseIds = [model.id, ...(parts.encoder ? [parts.encoder.id] : [])];
  const loraRoutes = (c: Context<Env>) => {
    requireOperator(parts, c.get("isOperator"));
    const by = `operator, ${c.get("requestId")}`;
    return { adapters, baseIds, folders: parts.adapterFolders, by };
  };
  for (const [path, answer] of [
    ["/v1/load_lora_adapter", loadLoraAdapter],
    ["/v1/unload_lora_adapter", unloadLoraAdapter],
  ] as const) {
    app.post(path, (c) => answer(loraRoutes(c), c.req.raw));
    app.all(path, wrongMethod);
  }
  for (const [path, answer] of [
    ["/load_lora_adapter", loadForSglang],
    ["/unload_lora_adapter", unloadForSglang],
  ] as const) {
    app.post(path, async (c) => answer(loraRoutes(c), await readJson(c.req.raw)));
  }

  app.get("/health", () => new Response(null, { status: engine.stats().ready ? 200 : 503 }));
  app.get("/ping", () => new Response(null, { status: engine.stats().ready ? 200 : 503 }));
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
    if (error instanceof HubError && error.code === "server_is_overloaded") metrics.rejected();
    if (!(error instanceof HubError)) parts.onFault(`${c.req.method} ${c.req.path} failed`, error);
    return loraxPaths.has(c.req.path) ? toLoraxError(error) : toErrorResponse(error);
  });
  return app;
}

/**
 * The gateway tells for whom it asks, and by which name its client knows the weights. Others do not: who could
 * name tenants could have the share of many.
 */
function callerOf(c: Context<Env>, { timeoutMsMax }: ServerLimits): Caller {
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

/** As vLLM lists them: the base, then adapters with their base as `parent`; and ours, what they are and where. */
function modelCards(parts: AppParts) {
  const { model, adapters, engine } = parts;
  const created = Math.floor(parts.nowMs() / 1000);
  const card = { object: "model" as const, created, owned_by: "switchyard" };
  const { slots } = engine.stats();
  return [
    {
      id: model.id,
      ...card,
      root: model.root,
      parent: null,
      max_model_len: contextLengthOf(engine),
    },
    ...encoderCard(parts, card),
    ...adapters.names().map(({ name, path, digest, pinned }) => ({
      id: name,
      ...card,
      root: path,
      parent: model.id,
      max_model_len: null,
      digest,
      pinned,
      residency: { slot: slots.includes(digest), ...adapters.residency(digest) },
    })),
  ];
}

/** What only embeds is a model like others in the list. */
function encoderCard(
  { encoder }: AppParts,
  card: { object: "model"; created: number; owned_by: string },
) {
  if (!encoder) return [];
  const { id, tokensMax } = encoder;
  return [{ id, ...card, root: id, parent: null, max_model_len: tokensMax }];
}

async function readJson(request: Request): Promise<unknown> {
  const text = await request.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new HubError("invalid_json", "The request body is not valid JSON.");
  }
}
