/** Turns a base model into an ONNX graph on disk, once for each content and format. */
import { createHash, randomUUID } from "node:crypto";
import { access, mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { ModelDims, ModelRunner } from "../engine/types.ts";
import { checkShapes } from "./checkpoint-weights.ts";
import { asStorageError } from "./disk-full.ts";
import { modelFileName, type SingleFormat, singleFormats } from "./graph-files.ts";
import type { GenerationConfig } from "./hugging-face-folder.ts";
import { int8WeightType } from "./int8-weights.ts";
import { type ModelSource, openModelSource, type TokenizerFiles } from "./model-source.ts";
import type { ModelSpec } from "./model-spec.ts";
import { readReport } from "./quantization/report.ts";
import type { StepTimes } from "./quantization/single-stream.ts";

/**
 * How weights are stored. `auto` measures and chooses, `mix` chooses for each matrix, also 4 bits; `f32` is exact, `int8`
 * rows are for throughput, `int8-a16` the same with activations in 16 bits, `int8-blocks` nearer to exact, `int4` for memory (blocks of 32 or 128).
 */
export const modelFormats = [
  "auto",
  "f32",
  "int8",
  "int8-a16",
  "int8-blocks",
  "int4",
  "int4-128",
  "mix",
] as const;
export type ModelFormat = (typeof modelFormats)[number];

/** What the engine computes with. */
export type ModelGraph = {
  /** The graph with adapters; the others and the weights lie beside it. */
  graphPath: string;
  format: ModelFormat;
  /** How weights for steps of a single sequence are stored, where there are such and they are to be used. */
  singleStream?: SingleFormat | undefined;
  /** Tokens of one block of the key/value pool. */
  blockSize: number;
  dims: ModelDims;
};

export type ImportedModel = ModelGraph & {
  /** The folder or file that it was imported from. */
  source: string;
  /** SHA-256 of the checkpoint's identity: the same for all formats. */
  baseDigest: string;
  shape: BaseShape;
  tokenizer: TokenizerFiles;
  /** Jinja text; absent when there is none. */
  chatTemplate: string | undefined;
  /** Tokens that end an answer. */
  endTokenIds: number[];
  /** What the model's own settings say, where a request does not. */
  generationDefaults: GenerationDefaults;
  /** Names what is computed with: two imports of one base with the same name answer alike. */
  numerics: string;
};

export type GenerationDefaults = {
  temperature?: number;
  topP?: number;
  topK?: number;
  repetitionPenalty?: number;
};

export type ImportOptions = {
  /** A folder with config.json, safetensors weights and tokenizer.json; or one GGUF file. */
  folder: string;
  format: ModelFormat;
  /**
   * Weights of 4 bits beside the others, for steps in which a single sequence decodes, where they are quicker here and
   * there is room. When absent, what another import has of them is not used.
   */
  singleStream?: SingleFormat | undefined;
  /** Further names under which people train adapters on this base. */
  names?: readonly string[];
  /** Imported models are kept here, one folder each, named by digest. */
  cacheDir: string;
  /** Memory that the weights may take; `auto` keeps to it. */
  memoryBytesMax?: number;
  /** Called with the share that is done, 0 to 1, again and again. */
  onProgress?: (done: number) => void;
  nowMs?: () => number;
  /** Tells how long a step of one sequence takes; measured when absent. */
  timeSteps?: (runner: ModelRunner) => Promise<StepTimes>;
};

/** Tokens of a block of the key/value cache; the graph is built for it. */
const keyValueBlockSize = 16;

/**
 * Imports a model, or finds it imported already. The result appears by a rename, so that an import
 * which was cut off leaves nothing that looks finished.
 * @throws HubError `unsupported_model` that names what we do not compute
 */
export async function importModel(options: ImportOptions): Promise<ImportedModel> {
  const { format, singleStream, cacheDir } = options;
  if (format === "f32" && singleStream) {
    const message = `f32 is an exact reference, and weights of 4 bits for single sequences are not.`;
    throw new HubError("invalid_value", message, { param: "singleStream" });
  }
  const source = await openModelSource(resolve(options.folder));
  await mkdir(cacheDir, { recursive: true });
  await removeAbandoned(cacheDir, (options.nowMs ?? Date.now)());
  const folderOf = (single: SingleFormat | undefined) =>
    join(resolve(cacheDir), importDigest(source.digest, format, single));
  const target = folderOf(singleStream);
  // An import with weights for single sequences serves without them as well.
  const others = singleStream ? [] : singleFormats.map(folderOf);
  const found = await firstFinished([target, ...others]);
  if (found === undefined) await importInto(target, source, options);
  return describe(found ?? target, source, options);
}

async function firstFinished(folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) if (await exists(join(folder, modelFileName))) return folder;
  return undefined;
}

/** Names the folder of one import: the checkpoint, the settings, the code that read them, and how bytes are stored here. */
function importDigest(
  baseDigest: string,
  format: ModelFormat,
  singleStream: SingleFormat | undefined,
): string {
  const text = `switchyard-import-v${importerVersion}\n${baseDigest}\n${format}\n${keyValueBlockSize}\n`;
  const unsigned = format !== "f32" && int8WeightType === "uint8" ? "uint8\n" : "";
  const single = singleStream ? `single ${singleStream}\n` : "";
  return createHash("sha256")
    .update(text + unsigned + single)
    .digest("hex");
}

async function importInto(
  target: string,
  source: ModelSource,
  options: ImportOptions,
): Promise<void> {
  const { format, singleStream, timeSteps } = options;
  const { memoryBytesMax = Number.POSITIVE_INFINITY, onProgress = () => {} } = options;
  const checkpoint = await source.openWeights();
  const temporary = `${target}.${randomUUID()}${temporarySuffix}`;
  const touching = setInterval(() => {
    const now = new Date();
    utimes(temporary, now, now).catch(() => {});
  }, touchEveryMs).unref();
  try {
    checkShapes(checkpoint, source.spec);
    await mkdir(temporary);
    // Loaded when there is something to import: most starts find theirs, and need no runtime in this thread.
    const { buildImport } = await import("./build-import.ts");
    await buildImport(temporary, source, {
      checkpoint,
      format,
      singleStream,
      blockSize: keyValueBlockSize,
      memoryBytesMax,
      onProgress,
      timeSteps,
    });
    await publish(temporary, target);
  } catch (error) {
    const reason = await asStorageError(error, dirname(target));
    await rm(temporary, { recursive: true, force: true });
    throw reason;
  } finally {
    clearInterval(touching);
    await checkpoint.close();
  }
}

/** What imports that were killed have left behind. One that still runs writes or touches its folder all the time. */
async function removeAbandoned(cacheDir: string, nowMs: number): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    if (!name.endsWith(temporarySuffix)) continue;
    const path = join(cacheDir, name);
    const writtenMs = await lastWritten(path);
    if (writtenMs !== undefined && nowMs - writtenMs > abandonedAfterMs) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

/** When something in a folder was last written; undefined when the import has just ended. */
async function lastWritten(folder: string): Promise<number | undefined> {
  const names = await readdir(folder).catch(() => undefined);
  const times = await Promise.all(
    [".", ...(names ?? [])].map((name) =>
      stat(join(folder, name)).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    ),
  );
  return names && Math.max(...times);
}

/** Another process may have finished the same import first; then its result stays. */
async function publish(temporary: string, target: string): Promise<void> {
  try {
    await rename(temporary, target);
  } catch (error) {
    if (!(await exists(join(target, modelFileName)))) throw error;
    await rm(temporary, { recursive: true, force: true });
  }
}

async function describe(
  folder: string,
  { name, spec, digest, tokenizer, chatTemplate, generation }: ModelSource,
  { folder: from, format, singleStream: wanted, names = [] }: ImportOptions,
): Promise<ImportedModel> {
  const report = await readReport(folder);
  const singleStream = report?.singleStream?.isChosen ? wanted : undefined;
  const recipe = report?.recipeDigest.slice(0, 8);
  return {
    graphPath: join(folder, modelFileName),
    format,
    singleStream,
    numerics: [format, recipe, singleStream && `single-${singleStream}`].filter(Boolean).join("-"),
    blockSize: keyValueBlockSize,
    dims: spec.dims,
    source: resolve(from),
    baseDigest: digest,
    shape: toShape(spec, [...names, name]),
    tokenizer,
    chatTemplate,
    endTokenIds: [generation.eos_token_id ?? spec.endTokenIds].flat(),
    generationDefaults: toGenerationDefaults(generation),
  };
}

function toShape({ family, dims, knownAs }: ModelSpec, names: readonly string[]): BaseShape {
  const { hiddenSize, intermediateSize, layers, vocabSize, fusedModules } = dims;
  const queryOut = dims.heads * dims.headDim;
  const keyOut = dims.keyValueHeads * dims.headDim;
  const module = (outputs: number) => ({ in: hiddenSize, out: outputs });
  const modules = fusedModules
    ? {
        qkv_proj: module(queryOut + 2 * keyOut),
        gate_up_proj: module(2 * intermediateSize),
      }
    : {
        q_proj: module(queryOut),
        k_proj: module(keyOut),
        v_proj: module(keyOut),
        gate_proj: module(intermediateSize),
        up_proj: module(intermediateSize),
      };
  return {
    family,
    layers,
    hiddenSize,
    vocabSize,
    modules: {
      ...modules,
      o_proj: { in: queryOut, out: hiddenSize },
      down_proj: { in: intermediateSize, out: hiddenSize },
    },
    trainedAs: [...new Set([...knownAs, ...names])],
  };
}

function toGenerationDefaults(generation: GenerationConfig): GenerationDefaults {
  const {
    temperature,
    top_p: topP,
    top_k: topK,
    repetition_penalty: repetitionPenalty,
  } = generation;
  const penalty = repetitionPenalty != null && { repetitionPenalty };
  // Without sampling the reference ignores temperature and its kin, whatever the file says of them.
  if (generation.do_sample === false) return { temperature: 0, ...penalty };
  return {
    ...(temperature != null && { temperature }),
    ...(topP != null && { topP }),
    ...(topK != null && { topK }),
    ...penalty,
  };
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Part of the cache's key: raise it with any change of the graph or of how weights are stored. */
export const importerVersion = 14;

const temporarySuffix = ".tmp";
/** Measuring takes a while in which nothing is written. */
const touchEveryMs = 30_000;
const abandonedAfterMs = 10 * 60_000;
