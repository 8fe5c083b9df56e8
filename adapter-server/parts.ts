/** What the adapter-server's routes work with; `server.ts` builds them. */
import { HubError } from "../sdk/protocol/errors.ts";
import type { EmbeddingSettings, ServerLimits } from "./config.ts";
import type { ServedEncoder } from "./embeddings/embedder.ts";
import type { Engine } from "./engine/engine.ts";
import type { AdapterStore } from "./lora/adapter-store.ts";
import type { GenerationDefaults } from "./models/import-model.ts";
import type { ChatTemplate } from "./models/templates/chat-template.ts";
import type { Tokenizer } from "./models/tokenizer.ts";
import type { ToolFormat } from "./output/tools/formats.ts";

/** The base model as it is served. */
export type ServedModel = {
  /** What clients call it. */
  id: string;
  /** Where it came from, as `/v1/models` tells. */
  root: string;
  tokenizer: Tokenizer;
  template: ChatTemplate;
  /** How the model writes tool calls; absent when its template knows no tools. */
  toolFormat: ToolFormat | undefined;
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
  embeddings: EmbeddingSettings;
  /** Whether prompts that begin alike share what is computed of them. */
  prefixCache: boolean;
  /** A model of its own that only embeds; absent where there is none. */
  encoder?: ServedEncoder | undefined;
  /** Opens operator routes and weights by digest; absent closes them. */
  operatorKey?: string | undefined;
  /** Asked of everyone else; absent lets everyone infer with the base and with loaded names. */
  apiKey?: string | undefined;
  /** Folders below which `lora_path` may lie. */
  adapterFolders: readonly string[];
  version: string;
  /** The time of day, which may be set back and forth. */
  nowMs: () => number;
  /** Never steps: for how long things take. */
  monotonicMs: () => number;
  /** Where a client gives no seed. */
  newSeed: () => number;
  /** Hears of our own failures. */
  onFault: (message: string, cause: unknown) => void;
};

/** What the model was made for, or what the KV cache holds where that is less. */
export function contextLengthOf({ facts }: Engine): number {
  // One block of the pool belongs to nobody.
  return Math.min(facts.dims.contextLength, (facts.blocks - 1) * facts.blockSize);
}

export function noSuchModel(model: string): HubError {
  return new HubError(
    "model_not_found",
    `The model \`${model.slice(0, 200)}\` does not exist or you do not have access to it.`,
    { param: "model" },
  );
}
