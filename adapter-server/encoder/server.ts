/** A server of one encoder and nothing else: embeddings, without a model that decodes. */
import type { Hono } from "hono";
import { Registry } from "prom-client";
import { parseOrThrow } from "../../sdk/protocol/errors.ts";
import { defaultThreads, type ServerLimits, serverLimits } from "../config.ts";
import { answerEmbeddings } from "../embeddings/answer.ts";
import { encoderEmbedder, type ServedEncoder } from "../embeddings/embedder.ts";
import { readEmbeddingsRequest } from "../embeddings/request.ts";
import { callerOf, openFront } from "../front.ts";
import type { Keys } from "../identity.ts";
import { readJsonBody } from "../json-body.ts";
import { AdapterLabels } from "../lora/adapter-labels.ts";
import { RequestSeries } from "../metrics/request-series.ts";
import { Series } from "../metrics/series.ts";
import { commonOf, encoderCard } from "../model-cards.ts";
import { holdFolder } from "../models/library/holds.ts";
import { createTokenizer } from "../models/tokenizer.ts";
import { noSuchModel } from "../parts.ts";
import { type Encoder, openEncoder } from "./encoder.ts";
import { importEncoder } from "./import-encoder.ts";

export type EncoderServerOptions = Keys & {
  /** What clients call it, and the folder that it was exported to. */
  model: { id: string; folder: string };
  dataDir: string;
  limits?: Partial<ServerLimits> | undefined;
  matryoshka?: boolean | undefined;
  threads?: number | undefined;
  version: string;
  onFault: (message: string, cause: unknown) => void;
};

/** @throws HubError `unsupported_model` that says what is missing or not computed */
export async function createEncoderServer(
  options: EncoderServerOptions,
): Promise<{ app: Pick<Hono, "fetch">; close(): Promise<void> }> {
  const limits = parseOrThrow(serverLimits, options.limits ?? {}, "limits.");
  const served = await serveEncoder(options.model, limits, options);
  return { app: createEncoderApp(served, limits, options), close: () => served.encoder.close() };
}

/** Imports the encoder and starts its thread. */
export async function serveEncoder(
  { id, folder }: { id: string; folder: string },
  limits: ServerLimits,
  { dataDir, threads, onFault }: Pick<EncoderServerOptions, "dataDir" | "threads" | "onFault">,
): Promise<ServedEncoder> {
  const bytesMax = limits.encoderBytesMax;
  const { tokenizer, ...imported } = await importEncoder(folder, { dataDir, bytesMax });
  // From here on nobody removes it.
  const release = await holdFolder(imported.folder);
  const opened = await openEncoder({
    graph: imported,
    limits: {
      requestsMax: limits.waitingMax,
      batchRowsMax: limits.encoderBatchRowsMax,
      batchTokensMax: limits.encoderBatchTokensMax,
    },
    threads: threads ?? defaultThreads(),
    onFault,
  }).catch(async (error: unknown) => {
    await release();
    throw error;
  });
  const encoder: Encoder = {
    width: opened.width,
    embed: (rows, signal) => opened.embed(rows, signal),
    async close() {
      await opened.close();
      await release();
    },
  };
  const { pooling, normalizes, tokensMax, vocabSize } = imported;
  const facts = { pooling, normalizes, tokensMax, vocabSize };
  return { id, encoder, tokenizer: createTokenizer(tokenizer), ...facts };
}

function createEncoderApp(
  served: ServedEncoder,
  limits: ServerLimits,
  options: EncoderServerOptions,
): Pick<Hono, "fetch"> {
  const { id } = served;
  const monotonicMs = () => performance.now();
  const nowMs = () => Date.now();
  const registry = new Registry();
  registry.setDefaultLabels({ engine: "0", model_name: id });
  const adapterLabels = new AdapterLabels(0, () => undefined);
  const requests = new RequestSeries(new Series(registry), { adapterLabels, monotonicMs });
  const metrics = { registry, rejected: () => requests.rejected() };
  const app = openFront({ ...options, limits, metrics, nowMs, isReady: () => true });
  const cards = () => [encoderCard(served, commonOf(nowMs()))];

  app.post("/v1/embeddings", async (c) => {
    const plan = readEmbeddingsRequest(await readJsonBody(c.req.raw, limits.bodyValuesMax), {
      ...limits,
      baseId: id,
    });
    if (plan.target.type !== "base") throw noSuchModel(plan.model);
    const shared = {
      limits,
      monotonicMs,
      metrics: requests,
      matryoshka: options.matryoshka === true,
    };
    return answerEmbeddings(shared, plan, {
      embedder: encoderEmbedder(served, plan),
      caller: callerOf(c, limits),
    });
  });
  app.get("/v1/models", (c) => c.json({ object: "list", data: cards() }));
  app.get("/v1/models/:id{.+}", (c) => {
    const card = cards().find((one) => one.id === c.req.param("id"));
    if (!card) throw noSuchModel(c.req.param("id"));
    return c.json(card);
  });
  return app;
}
