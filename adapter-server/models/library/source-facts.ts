/** What a model says of itself before it is imported; no weight is read for it. */
import { readFolderFacts } from "./folder-facts.ts";
import { readGgufFacts } from "./gguf-facts.ts";
import type { TensorGroup } from "./tensor-groups.ts";

export type SourceFacts = {
  architecture: string;
  contextLength: number | undefined;
  layers: number | undefined;
  hiddenSize: number | undefined;
  vocabSize: number | undefined;
  /** Stored values. */
  parameters: number;
  /** Bytes of the weight files. */
  sizeBytes: number;
  embeddingBytes: number;
  groups: TensorGroup[];
  tokenizer: { type: string; tokens: number } | undefined;
  hasChatTemplate: boolean;
  /** As the model card, the licence file or the metadata names it. */
  licence: string | undefined;
};

/**
 * @param path a folder, or a GGUF file
 * @throws HubError `unsupported_model` when a file is missing or its header is not what it should be
 */
export function readSourceFacts(path: string): Promise<SourceFacts> {
  return path.toLowerCase().endsWith(".gguf") ? readGgufFacts(path) : readFolderFacts(path);
}
