/** The adapter-server's HTTP surface: OpenAI's chat completions, vLLM's operator routes and metrics. */
import { createHash, timingSafeEqual } from "node:crypto";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HubError, toErrorResponse } from "../sdk/protocol/errors.ts";
import { adapterDigestHeader, servedModelHeader, tenantHeader } from "../sdk/protocol/http.ts";
import { newId, requestId } from "../sdk/protocol/ids.ts";
import { type AnswerHead, toCompletion, toFrames } from "./chat/answer.ts";
import { decodeChoices, type Piece } from "./chat/choices.ts";
import { type ChatPlan, readChatRequest, type SingleTarget } from "./chat/request.ts";
import type { ServerLimits } from "./config.ts";
import type { Engine } from "./engine/engine.ts";
import type { AdapterLease } from "./lora/adapter-cache.ts";
import type { AdapterStore } from "./lora/adapter-store.ts";
import { loadLoraAdapter, unloadLoraAdapter } from "./lora/routes.ts";
import { Metrics, type Outcome, type RequestTrack } from "./metrics.ts";
import type { ChatTemplate } from "./models/chat-template.ts";
import type { GenerationDefaults } from "./models/import-model.ts";
import type { Tokenizer } from "./models/tokenizer.ts";

/** The base model as it is served. */
type ServedModel = {
  /** What clients call it. */
  id: string;
  /** Where it came from, as `/v1/models` tells. */
  root: string;
  tokenizer: Tokenizer;
  template: ChatTemplate;
  endTokenIds: number[];
  generationDefaults: GenerationDefaults;
  /** `system_fingerprint`: weights and format. */
  fingerprint: string;
};

export type AppParts = {
  model: ServedModel;
  engine: Engine;
  adapters: AdapterStore;
  limits: ServerLimits;
  /** Opens operator routes and weights by digest; absent closes them. */
  operatorKey?: string | undefined;
  /** Asked of everyone else; absent lets everyone infer with the base and with loaded names. */
  apiKey?: string | undefined;
  /** Folders below which `lora_path` may lie. */
  adapterFolders: readonly string[];
  version: string;
  nowMs: () => number;
  /** Where a client gives no seed. */
  newSeed: () => number;
  /** Hears of our own failures. */
  onFault: (message: string, cause: unknown) => void;
};

type Env = { Variables: { requestId: string; isOperator: boolean } };

export function createApp(parts: AppParts): Hono<Env> {
  const { model, engine, adapters, limits } = parts;
  const metrics = new Metrics({
    modelName: model.id,
    engineStats: () => engine.stats(),
    hostStats: () => adapters.stats(),
    adapterLabel: (digest) => labelOf(adapters, digest),
    slots: engine.facts.slots,
    nowMs: parts.nowMs,
  });
  const app = new Hono<Env>();

  app.use(async (c, next) => {
    const given = requestId.safeParse(c.req.header("x-request-id"));
    c.set("requestId", given.success ? given.data : newId("req", parts.nowMs()));
    await next();
    c.res.headers.set("x-request-id", c.get("requestId"));
  });
  app.use("/v1/*", async (c, next) => {
    c.set("isOperator", identify(parts, c.req.header("authorization")));
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

  app.post("/v1/chat/completions", async (c) => {
    const plan = readChatRequest(await readJson(c.req.raw), { baseId: model.id, ...limits });
    return answerChat({ ...parts, metrics }, plan, {
      signal: c.req.raw.signal,
      isOperator: c.get("isOperator"),
      // The gateway tells for whom it asks, and by which name its client knows the weights. Others do not:
      // who could name tenants could have the share of many.
      tenant: (c.get("isOperator") && c.req.header(tenantHeader)) || "",
      ...(c.get("isOperator") && { servedAs: c.req.header(servedModelHeader) }),
    });
  });

  app.get("/v1/models", (c) => c.json({ object: "list", data: modelCards(parts) }));
  app.get("/v1/models/:id{.+}", (c) => {
    const card = modelCards(parts).find(({ id }) => id === c.req.param("id"));
    if (!card) throw noSuchModel(c.req.param("id"));
    return c.json(card);
  });

  const loraRoutes = { adapters, baseId: model.id, folders: parts.adapterFolders };
  app.post("/v1/load_lora_adapter", async (c) => {
    requireOperator(parts, c.get("isOperator"));
    return loadLoraAdapter(loraRoutes, await readObject(c.req.raw));
  });
  app.post("/v1/unload_lora_adapter", async (c) => {
    requireOperator(parts, c.get("isOperator"));
    return unloadLoraAdapter(loraRoutes, await readObject(c.req.raw));
  });

  app.get("/health", () => new Response(null, { status: engine.stats().ready ? 200 : 503 }));
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
    if (!(error instanceof HubError)) parts.onFault(`${c.req.method} ${c.req.path} failed`, error);
    return toErrorResponse(error);
  });
  return app;
}

type ChatParts = AppParts & { metrics: Metrics };
type Caller = {
  signal: AbortSignal;
  tenant: string;
  isOperator: boolean;
  /** What the answer calls its model; the requested name when absent. */
  servedAs?: string | undefined;
};

/** Prompt, then weights, then tokens. The answer begins with the first token, so that failures before it have a status. */
async function answerChat(parts: ChatParts, plan: ChatPlan, caller: Caller): Promise<Response> {
  const { model, metrics } = parts;
  const startMs = parts.nowMs();
  const prompt = toPrompt(model, plan.messages);
  const maxTokens = tokensLeft(parts, prompt.length, plan.maxTokens);
  const lease = await acquireWeights(parts, plan, caller);
  const leave = new AbortController();
  const pieces = tracked(
    metrics.begin({ startMs, adapter: lease?.adapter.digest, promptTokens: prompt.length }),
    decodeChoices({
      engine: parts.engine,
      tokenizer: model.tokenizer,
      request: {
        prompt,
        maxTokens,
        stopIds: plan.ignoreEos ? [] : model.endTokenIds,
        adapter: lease?.adapter.digest,
        tenant: caller.tenant,
        sampling: samplingOf(parts, plan),
        logprobs: plan.logprobs,
      },
      stop: plan.stop,
      choices: plan.choices,
      signal: AbortSignal.any([caller.signal, leave.signal]),
    }),
    () => lease?.release(),
  );
  const first = await pieces.next();
  const all = resume(first, pieces);
  const adapter = first.value?.adapter;
  const head: AnswerHead = {
    id: `chatcmpl-${newId("req", parts.nowMs()).slice(4)}`,
    created: Math.floor(parts.nowMs() / 1000),
    model: caller.servedAs ?? plan.model,
    fingerprint: model.fingerprint,
    promptTokens: prompt.length,
  };
  const headers: Record<string, string> = { [servedModelHeader]: head.model };
  if (adapter !== undefined) headers[adapterDigestHeader] = adapter;
  if (!plan.stream) {
    return Response.json(await toCompletion(head, all, plan.choices), { headers });
  }
  const frames = toFrames(head, all, { includeUsage: plan.includeUsage });
  return new Response(
    toByteStream(frames, () => leave.abort()),
    {
      headers: { ...headers, ...streamHeaders },
    },
  );
}

/** Only the template writes control tokens: who ends a turn in a message's text has written some letters. */
function toPrompt({ tokenizer, template }: ServedModel, messages: ChatPlan["messages"]): number[] {
  const quoted = messages.map(({ role, content }) => ({ role, content: tokenizer.quote(content) }));
  return tokenizer.encode(template.render(quoted));
}

/** @throws HubError `context_length_exceeded` when there is no room for a single token of answer */
function tokensLeft(parts: ChatParts, promptTokens: number, asked: number | undefined): number {
  const contextLength = contextLengthOf(parts.engine);
  const left = contextLength - promptTokens;
  if (left < 1) {
    throw new HubError(
      "context_length_exceeded",
      `This model's maximum context length is ${contextLength} tokens. However, your messages resulted in ${promptTokens} tokens. Please reduce the length of the messages.`,
      { param: "messages", details: { contextLength, promptTokens } },
    );
  }
  return Math.min(left, asked ?? left);
}

/** What the model was made for, or what the KV cache holds where that is less. */
function contextLengthOf({ facts }: Engine): number {
  // One block of the pool belongs to nobody.
  return Math.min(facts.dims.contextLength, (facts.blocks - 1) * facts.blockSize);
}

async function acquireWeights(
  parts: ChatParts,
  plan: ChatPlan,
  caller: Caller,
): Promise<AdapterLease | undefined> {
  const digestOf = (target: SingleTarget) => {
    // To those who may not ask for weights by digest there are none, whether they exist or not.
    if (target.type === "digest" && caller.isOperator) return target.digest;
    const named = target.type === "name" ? parts.adapters.named(target.name) : undefined;
    if (!named) throw noSuchModel(plan.model);
    return named.digest;
  };
  const { target } = plan;
  switch (target.type) {
    case "base":
      return undefined;
    case "name":
    case "digest":
      return parts.adapters.acquire(digestOf(target));
    case "mix":
      return parts.adapters.acquireMix(
        target.parts.map((part) => ({ digest: digestOf(part.target), weight: part.weight })),
      );
    default:
      return target satisfies never;
  }
}

function samplingOf(parts: ChatParts, plan: ChatPlan) {
  const { generationDefaults } = parts.model;
  return {
    temperature: plan.temperature ?? generationDefaults.temperature ?? 1,
    topP: plan.topP ?? generationDefaults.topP ?? 1,
    topK: plan.topK ?? generationDefaults.topK ?? 0,
    repetitionPenalty: plan.repetitionPenalty ?? generationDefaults.repetitionPenalty ?? 1,
    seed: plan.seed ?? parts.newSeed(),
    stream: 0,
  };
}

/** Passes pieces on and keeps account of them; whatever way it ends, the weights are let go. */
async function* tracked(
  track: RequestTrack,
  pieces: AsyncIterable<Piece>,
  release: () => void,
): AsyncGenerator<Piece, void, void> {
  let outcome: Outcome = "abort";
  try {
    let finish: Outcome = "length";
    for await (const piece of pieces) {
      track.tokens(piece.tokens, piece.choice);
      if (piece.finish) finish = piece.finish;
      yield piece;
    }
    outcome = finish;
  } catch (error) {
    const cancelled = error instanceof HubError && error.code === "request_cancelled";
    outcome = cancelled ? "abort" : "error";
    throw error;
  } finally {
    track.end(outcome);
    release();
  }
}

/** A generator whose first result was read already. */
async function* resume<T>(first: IteratorResult<T, void>, rest: AsyncGenerator<T, void, void>) {
  if (first.done) return;
  try {
    yield first.value;
    yield* rest;
  } finally {
    await rest.return();
  }
}

/** @param onCancel called when the reader goes away, also while a frame is awaited */
function toByteStream(
  frames: AsyncGenerator<string, void, void>,
  onCancel: () => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await frames.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      onCancel();
      await frames.return();
    },
  });
}

/**
 * Whether the caller holds the operator's key.
 * @throws HubError `missing_api_key`, `invalid_api_key`
 */
function identify({ operatorKey, apiKey }: AppParts, header: string | undefined): boolean {
  const presented = /^Bearer (.+)$/i.exec(header ?? "")?.[1];
  if (presented !== undefined && operatorKey !== undefined && isSame(presented, operatorKey))
    return true;
  if (apiKey === undefined) return false;
  if (presented === undefined) {
    throw new HubError(
      "missing_api_key",
      "You didn't provide an API key. Send it as 'Authorization: Bearer KEY'.",
    );
  }
  if (!isSame(presented, apiKey))
    throw new HubError("invalid_api_key", "Incorrect API key provided.");
  return false;
}

function requireOperator({ operatorKey }: AppParts, isOperator: boolean): void {
  if (isOperator) return;
  throw operatorKey === undefined
    ? new HubError(
        "unknown_url",
        "Loading adapters is off: the server was started without an operator key.",
      )
    : new HubError("invalid_api_key", "This route needs the operator's key.");
}

/** In a time that tells nothing about how much of the key was right. */
function isSame(a: string, b: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}

/** As vLLM lists them: the base, then adapters with their base as `parent`. */
function modelCards(parts: AppParts) {
  const { model, adapters, engine } = parts;
  const created = Math.floor(parts.nowMs() / 1000);
  const card = { object: "model" as const, created, owned_by: "switchyard" };
  return [
    {
      id: model.id,
      ...card,
      root: model.root,
      parent: null,
      max_model_len: contextLengthOf(engine),
    },
    ...adapters.names().map(({ name, path, digest }) => ({
      id: name,
      ...card,
      root: path,
      parent: model.id,
      max_model_len: null,
      digest,
    })),
  ];
}

/** Every digest that was ever asked for would be a series for ever; the head of it tells enough. */
function labelOf(adapters: AdapterStore, digest: string): string {
  return (
    adapters.names().find((named) => named.digest === digest)?.name ??
    `sha256-${digest.slice(0, 12)}`
  );
}

async function readJson(request: Request): Promise<unknown> {
  const text = await request.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new HubError("invalid_json", "The request body is not valid JSON.");
  }
}

async function readObject(request: Request): Promise<Record<string, unknown>> {
  const body = await readJson(request);
  if (typeof body === "object" && body !== null && !Array.isArray(body)) return { ...body };
  throw new HubError("invalid_type", "The request body must be a JSON object.");
}

function noSuchModel(model: string): HubError {
  return new HubError(
    "model_not_found",
    `The model \`${model.slice(0, 200)}\` does not exist or you do not have access to it.`,
    { param: "model" },
  );
}

const streamHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};
