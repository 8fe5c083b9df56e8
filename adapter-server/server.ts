/** Builds a whole adapter-server from a model folder: import, engine, adapters, app. */
import { join } from "node:path";
import type { Hono } from "hono";
import { HubError, parseOrThrow } from "../sdk/protocol/errors.ts";
import { createApp } from "./app.ts";
import {
  defaultThreads,
  type EmbeddingSettings,
  type EncoderSetting,
  type ServerLimits,
  serverLimits,
} from "./config.ts";
import { serveEncoder } from "./encoder/server.ts";
import { type Engine, startEngine } from "./engine/engine.ts";
import type { ModelRunnerOptions } from "./engine/model-runner.ts";
import { AdapterFileCache } from "./lora/adapter-files.ts";
import type { AdapterSource } from "./lora/adapter-source.ts";
import { type AdapterAuditEvent, AdapterStore } from "./lora/adapter-store.ts";
import { type DeclaredAdapter, loadDeclared } from "./lora/declared-adapters.ts";
import { openPacker, type Packer } from "./lora/packer.ts";
import type { SingleFormat } from "./models/graph-files.ts";
import type { ImportedModel, ModelFormat } from "./models/import-model.ts";
import { openForServing } from "./models/library/import.ts";
import { createChatTemplate } from "./models/templates/chat-template.ts";
import { createTokenizer, type Tokenizer } from "./models/tokenizer.ts";
import { toVocabulary } from "./output/grammar/vocabulary.ts";
import { type ToolFormat, toolFormatOf } from "./output/tools/formats.ts";

export type AdapterServerOptions = {
  /**
   * `id` is what clients call the base; `folder` holds it in Hugging Face's layout, or is a GGUF file, or
   * `hf:owner/name@revision` of what was pulled before.
   */
  model: { id: string; folder: string };
  format: ModelFormat;
  /** Weights beside the others, for steps in which a single sequence decodes; none when absent. */
  singleStream?: SingleFormat | undefined;
  /** Imported models and fetched adapters are kept below it. */
  dataDir: string;
  operatorKey?: string | undefined;
  apiKey?: string | undefined;
  /** Where adapters come from by digest. */
  source?: AdapterSource | undefined;
  /** Adapters that are in memory before the first request. */
  adapters?: readonly DeclaredAdapter[] | undefined;
  /** Folders below which `lora_path` may lie. */
  adapterFolders?: readonly string[] | undefined;
  limits?: Partial<ServerLimits> | undefined;
  /** Whether prompts of one tenant share what is computed of them where they begin alike; true when absent. */
  prefixCache?: boolean | undefined;
  /** How texts are embedded where requests do not say it: from the last token, and never shortened, when absent. */
  embeddings?: EmbeddingSettings | undefined;
  /** A model of its own that only embeds, beside the base. */
  encoder?: EncoderSetting | undefined;
  /** How the model writes tool calls; what its chat template teaches when absent. */
  toolFormat?: ToolFormat | undefined;
  threads?: number | undefined;
  version: string;
  onFault: (message: string, cause: unknown) => void;
  /** For the audit log: which weights came and went, where and for whom. */
  onAdapterEvent?: ((event: AdapterAuditEvent) => void) | undefined;
  /** The share of the import that is done, 0 to 1; not called when it was done before. */
  onProgress?: ((done: number) => void) | undefined;
};

export type AdapterServer = {
  /** Its `fetch` serves requests, behind a socket or in this process. */
  app: Pick<Hono, "fetch">;
  engine: Engine;
  adapters: AdapterStore;
  /** What the registry has to know of the base. */
  model: ImportedModel;
  /** Ends what still runs with `shutting_down`. */
  close(): Promise<void>;
};

/** @throws HubError `unsupported_model` that names what we cannot serve, or what is not here */
export async function createAdapterServer(options: AdapterServerOptions): Promise<AdapterServer> {
  const limits = parseOrThrow(serverLimits, options.limits ?? {}, "limits.");
  const { model, release } = await openForServing({
    source: options.model.folder,
    format: options.format,
    singleStream: options.singleStream,
    dataDir: options.dataDir,
    onProgress: options.onProgress,
    onWarning: (message) => options.onFault("the model is larger than the memory", message),
  });
  try {
    const server = await createFromModel(model, limits, options);
    return { ...server, close: () => server.close().finally(release) };
  } catch (error) {
    await release();
    throw error;
  }
}

async function createFromModel(
  model: ImportedModel,
  limits: ServerLimits,
  options: AdapterServerOptions,
): Promise<AdapterServer> {
  const tokenizer = createTokenizer(model.tokenizer);
  if (model.chatTemplate === undefined) {
    throw new HubError("unsupported_model", "The model has no chat template.");
  }
  const template = createChatTemplate(model.chatTemplate, tokenizer.specialTokens);
  const encoder = options.encoder && (await serveEncoder(options.encoder, limits, options));
  const engine = await startModelEngine({ model, tokenizer, limits }, options);
  const packer = openPacker({ threadsMax: limits.adapterPackersMax });
  const close = async () =>
    void (await Promise.all([engine.close(), packer.close(), encoder?.encoder.close()]));
  const adapters = await openAdapters({ model, limits, engine, packer }, options);
  const app = createApp({
    model: {
      id: options.model.id,
      root: options.model.folder,
      tokenizer,
      template,
      toolFormat: options.toolFormat ?? toolFormatOf(model.chatTemplate),
      endTokenIds: model.endTokenIds,
      generationDefaults: model.generationDefaults,
      fingerprint: fingerprintOf(model, limits),
    },
    engine,
    adapters,
    limits,
    prefixCache: options.prefixCache ?? true,
    embeddings: options.embeddings ?? { pooling: "last", matryoshka: false },
    encoder,
    operatorKey: options.operatorKey,
    apiKey: options.apiKey,
    adapterFolders: options.adapterFolders ?? [],
    version: options.version,
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    newSeed: () => Math.floor(Math.random() * 2 ** 53),
    onFault: options.onFault,
  });
  try {
    await loadDeclared(adapters, options.adapters ?? [], options.onFault);
  } catch (error) {
    await close();
    throw error;
  }
  return { app, engine, adapters, model, close };
}

/** The adapters' tiers, with nothing in memory. */
async function openAdapters(
  parts: { model: ImportedModel; limits: ServerLimits; engine: Engine; packer: Packer },
  options: AdapterServerOptions,
): Promise<AdapterStore> {
  const { model, limits, engine, packer } = parts;
  const files = await AdapterFileCache.open(
    join(options.dataDir, "adapters"),
    limits.adapterDiskBytesMax,
  );
  const adapters = new AdapterStore({
    packer,
    shape: model.shape,
    checkpoint: { path: model.source, digest: model.baseDigest },
    engine,
    source: options.source,
    files,
    hostBytesMax: limits.adapterHostBytesMax,
    roomWaitMsMax: limits.adapterRoomWaitMsMax,
    fileBytesMax: limits.adapterFileBytesMax,
    fetchesMax: limits.adapterFetchesMax,
    fetchMsMax: limits.adapterFetchMsMax,
    acquiringMax: limits.waitingMax,
    namesMax: limits.adapterNamesMax,
    nowMs: () => performance.now(),
  });
  adapters.listen((event) => {
    if (event.type !== "acquired") options.onAdapterEvent?.(event);
  });
  return adapters;
}

/** All that decides which numbers are computed. */
function fingerprintOf({ baseDigest, numerics }: ImportedModel, limits: ServerLimits): string {
  const cache = limits.kvCacheType === "f32" ? "" : `-${limits.kvCacheType}-cache`;
  return `switchyard-${baseDigest.slice(0, 12)}-${numerics}${cache}`;
}

function startModelEngine(
  {
    model,
    tokenizer,
    limits,
  }: { model: ImportedModel; tokenizer: Tokenizer; limits: ServerLimits },
  { threads, prefixCache = true, onFault }: AdapterServerOptions,
): Promise<Engine> {
  const { graphPath, format, singleStream, blockSize, dims } = model;
  const runnerOptions: ModelRunnerOptions = {
    // A tokenizer is large, and the engine's thread needs none.
    model: { graphPath, format, singleStream, blockSize, dims },
    keyValues: limits.kvCacheType,
    // The null block comes on top.
    blocks: Math.ceil(limits.kvCacheTokens / model.blockSize) + 1,
    slots: limits.adapterSlots,
    rankMax: limits.adapterRankMax,
    threads: threads ?? defaultThreads(),
  };
  const isSource = import.meta.url.endsWith(".ts");
  const module = new URL(`./engine/model-runner.${isSource ? "ts" : "js"}`, import.meta.url).href;
  return startEngine({
    runner: { module, options: runnerOptions },
    limits,
    prefixCache,
    grammars: {
      vocabulary: toVocabulary(tokenizer, model.dims.vocabSize),
      endTokenIds: model.endTokenIds,
      limits,
    },
    restartsMax: limits.engineRestartsMax,
    downMs: limits.engineDownMs,
    onFault,
  });
}
