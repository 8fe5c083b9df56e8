/** A base model as a user has it on disk: a Hugging Face folder, or one GGUF file. */
import { openGguf } from "./gguf/source.ts";
import { type GenerationConfig, openFolder } from "./hugging-face-folder.ts";
import type { FileDigests } from "./model-digest.ts";
import type { ModelSpec } from "./model-spec.ts";

/** All that an import and a server need of it; what it is stored as does not matter to them. */
export type ModelSource = {
  /** What people call it: the name of its folder or file. */
  name: string;
  spec: ModelSpec;
  /**
   * The identity of the base: a SHA-256 over the files that decide its numbers and its tokens. Weight
   * formats of one checkpoint share it, since adapters fit them all.
   */
  digest: string;
  tokenizer: TokenizerFiles;
  /** Jinja text; absent when there is none. */
  chatTemplate: string | undefined;
  generation: GenerationConfig;
  openWeights(): Promise<WeightFiles>;
};

export type TokenizerFiles = {
  /** As `tokenizer.json`. */
  tokenizer: unknown;
  /** As `tokenizer_config.json`: mostly the names of the special tokens that templates refer to. */
  config: unknown;
};

/** Open weights. Tensors have the names and the row order of Hugging Face's checkpoints. */
export type WeightFiles = {
  names(): string[];
  /** The type in which `readStored` gives a tensor. */
  dtype(name: string): string;
  /**
   * Checks a tensor's shape before anything is read.
   * @throws HubError `unsupported_model` that names the tensor and both shapes
   */
  expectShape(name: string, shape: readonly number[]): void;
  /** Rows `[from, to)` of a tensor, or all of it, in float32. A tensor of one axis is one row. */
  read(name: string, from?: number, to?: number): Promise<Float32Array>;
  /** The same rows as they are stored, little-endian. */
  readStored(name: string, from?: number, to?: number): Promise<Uint8Array>;
  close(): Promise<void>;
};

/**
 * Reads all but the weights.
 * @param path a folder, or a file whose name ends in `.gguf`
 * @param known files whose digests are known, so that they are not read for it
 * @throws HubError `unsupported_model` that names what is missing or not computed
 */
export function openModelSource(path: string, known?: FileDigests): Promise<ModelSource> {
  return path.toLowerCase().endsWith(".gguf") ? openGguf(path, known) : openFolder(path, known);
}
