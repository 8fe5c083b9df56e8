/** The adapter-server's HTTP surface: OpenAI's chat completions, vLLM's operator routes and metrics. */
import type { Context, Hono } from "hono";
import { toErrorResponse } from "../sdk/protocol/errors.ts";
import { answerChat } from "./chat/complete.ts";
import { readChatRequest } from "./chat/request.ts";
import { answerText } from "./completions/complete.ts";
import { readTextRequest } from "./completions/request.ts";
import { answerEmbeddings } from "./embeddings/answer.ts";
import { embedderOf } from "./embeddings/embedder.ts";
import { readEmbeddingsRequest } from "./embeddings/request.ts";
import { callerOf, type Env, openFront } from "./front.ts";
import { requireOperator } from "./identity.ts";
import { readJsonBody } from "./json-body.ts";
import { AdapterLabels } from "./lora/adapter-labels.ts";
import { registerAdapterMetrics } from "./lora/adapter-metrics.ts";
import { loadForSglang, unloadForSglang } from "./lora/sglang-routes.ts";
import { loadLoraAdapter, unloadLoraAdapter, wrongMethod } from "./lora/vllm-routes.ts";
import { loraxPaths, toLoraxError } from "./lorax/errors.ts";
import { answerLorax, loraxInfo } from "./lorax/generate.ts";
import { Metrics } from "./metrics.ts";
import { modelCards } from "./model-cards.ts";
import { type AppParts, noSuchModel } from "./parts.ts";
import { detokenize, tokenize } from "./tokenize/routes.ts";

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
  const app = openFront({
    ...parts,
    metrics,
    isReady: () => engine.stats().ready,
    toError: (error, path) => (loraxPaths.has(path) ? toLoraxError(error) : toErrorResponse(error)),
  });

  const { vocabSize } = engine.facts.dims;
  const readBody = (c: Context<Env>) => readJsonBody(c.req.raw, limits.bodyValuesMax);
  const reading = { baseId: model.id, toolFormat: model.toolFormat, vocabSize, ...limits };
  app.post("/v1/chat/completions", async (c) => {
    const plan = readChatRequest(await readBody(c), reading);
    return answerChat({ ...parts, metrics }, plan, callerOf(c, limits));
  });
  app.post("/v1/completions", async (c) => {
    const plan = readTextRequest(await readBody(c), reading);
    return answerText({ ...parts, metrics }, plan, callerOf(c, limits));
  });
  // vLLM has them at the root, and a gateway knows this server by an address that ends in /v1.
  for (const prefix of ["", "/v1"]) {
    app.post(`${prefix}/tokenize`, async (c) => c.json(tokenize(parts, await readBody(c))));
    app.post(`${prefix}/detokenize`, async (c) => c.json(detokenize(parts, await readBody(c))));
  }
  app.post("/v1/embeddings", async (c) => {
    const plan = readEmbeddingsRequest(await readBody(c), reading);
    const caller = callerOf(c, limits);
    const embedder = embedderOf(parts, plan, caller);
    const { matryoshka } = parts.embeddings;
    return answerEmbeddings({ ...parts, metrics, matryoshka }, plan, { embedder, caller });
  });

  for (const [path, variant] of [
    ["/generate", "whole"],
    ["/generate_stream", "stream"],
    ["/", "either"],
  ] as const) {
    app.post(path, async (c) => {
      const caller = callerOf(c, limits);
      return answerLorax({ ...parts, metrics }, await readBody(c), {
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
    app.post(path, async (c) => answer(loraRoutes(c), await readBody(c)));
  }
  return app;
}
