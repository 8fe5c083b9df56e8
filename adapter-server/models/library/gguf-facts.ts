/** What a GGUF file says of itself, read from its header. */
import type { GgufTensor, GgufValue } from "../gguf/header.ts";
import { toHuggingFaceName } from "../gguf/names.ts";
import { closeShards, openShards } from "../gguf/shards.ts";
import type { SourceFacts } from "./source-facts.ts";
import { groupOf, groupTensors } from "./tensor-groups.ts";

/** @throws HubError `unsupported_model` when the header is not what it should be */
export async function readGgufFacts(path: string): Promise<SourceFacts> {
  const shards = await openShards(path);
  try {
    const metadata = shards[0]?.header.metadata ?? new Map<string, GgufValue>();
    const tensors = new Map(shards.flatMap(({ header }) => [...header.tensors]));
    const architecture = textOf(metadata, "general.architecture") ?? "unknown";
    const stored = [...tensors.values()].map((tensor) => ({
      group: groupOf(toHuggingFaceName(tensor.name, architecture)),
      format: tensor.type.name.toLowerCase(),
      tensors: 1,
      parameters: valuesOf(tensor),
      sizeBytes: tensor.end - tensor.begin,
    }));
    const embedding = tensors.get("token_embd.weight");
    return {
      architecture,
      contextLength: numberOf(metadata, `${architecture}.context_length`),
      layers: numberOf(metadata, `${architecture}.block_count`),
      hiddenSize: numberOf(metadata, `${architecture}.embedding_length`),
      vocabSize: embedding?.shape[0],
      parameters: stored.reduce((sum, { parameters }) => sum + parameters, 0),
      sizeBytes: stored.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      // An import as f32 keeps 16-bit embeddings as they are and makes float32 of all others.
      embeddingBytes: embedding
        ? valuesOf(embedding) * (/^B?F16$/.test(embedding.type.name) ? 2 : 4)
        : 0,
      groups: groupTensors(stored),
      tokenizer: tokenizerOf(metadata),
      hasChatTemplate: metadata.has("tokenizer.chat_template"),
      licence: textOf(metadata, "general.license"),
    };
  } finally {
    await closeShards(shards);
  }
}

function tokenizerOf(metadata: ReadonlyMap<string, GgufValue>): SourceFacts["tokenizer"] {
  const tokens = metadata.get("tokenizer.ggml.tokens");
  if (!Array.isArray(tokens)) return undefined;
  return { type: textOf(metadata, "tokenizer.ggml.model") ?? "unknown", tokens: tokens.length };
}

function textOf(metadata: ReadonlyMap<string, GgufValue>, key: string): string | undefined {
  const value = metadata.get(key);
  return typeof value === "string" ? value : undefined;
}

function numberOf(metadata: ReadonlyMap<string, GgufValue>, key: string): number | undefined {
  const value = metadata.get(key);
  return typeof value === "number" ? value : undefined;
}

function valuesOf({ shape }: GgufTensor): number {
  return shape.reduce((product, size) => product * size, 1);
}
