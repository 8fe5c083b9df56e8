/** An encoder as sentence-transformers exports it: an ONNX graph, a tokenizer, and how its vectors are pooled. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, realpath, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, sep } from "node:path";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { readJson } from "../models/checkpoint.ts";
import type { TokenizerFiles } from "../models/model-source.ts";
import { type OnnxFacts, type OnnxValue, readOnnxFacts } from "./onnx-file.ts";
import type { EncoderPooling } from "./pool.ts";

/** What the engine of an encoder has to know of it. */
export type EncoderGraph = {
  graphPath: string;
  /** The graph's inputs by what they are for; 7 is int64, 6 int32. */
  inputs: { name: InputName; elementType: number }[];
  /** `[rows, tokens, width]`, a hidden state for each token. */
  output: string;
  pooling: EncoderPooling;
};

export type EncoderSource = EncoderGraph & {
  /** SHA-256 over the files that decide its numbers and its tokens. */
  digest: string;
  tokenizer: TokenizerFiles;
  /** Whether its own last step brings vectors to length 1. */
  normalizes: boolean;
  /** Tokens that one text may have. */
  tokensMax: number;
  vocabSize: number;
  /** All that it is read from. */
  files: string[];
  sizeBytes: number;
};

/** The graph of an encoder's folder; `undefined` when it holds none. */
export async function findEncoderGraph(folder: string): Promise<string | undefined> {
  for (const name of graphNames) {
    const found = await stat(join(folder, name)).catch(() => undefined);
    if (found?.isFile()) return join(folder, name);
  }
  return undefined;
}

/**
 * Reads and checks all of it; nothing of the graph is run.
 * @param bytesMax of the graph and its weights together
 * @throws HubError `unsupported_model` that names what is missing, or what we do not compute
 */
export async function readEncoderFolder(folder: string, bytesMax: number): Promise<EncoderSource> {
  const graphPath = await findEncoderGraph(folder);
  if (graphPath === undefined) throw refusal(`The folder has no file ${graphNames.join(" or ")}.`);
  await checkSize([graphPath], bytesMax);
  const facts = readOnnxFacts(await readFile(graphPath));
  const dataPaths = await Promise.all(
    facts.dataFiles.map((name) => insideFolder(dirname(graphPath), name)),
  );
  const weights = [graphPath, ...new Set(dataPaths)];
  const sizeBytes = await checkSize(weights, bytesMax);

  const config = configFile.parse((await readJson(folder, "config.json")) ?? {});
  const sentence = sentenceFile.parse((await readJson(folder, "sentence_bert_config.json")) ?? {});
  const tokenizer = await readJson(folder, "tokenizer.json");
  if (tokenizer === undefined) throw refusal("The folder has no file tokenizer.json.");
  const lengths = [sentence.max_seq_length, config.max_position_embeddings];
  const known = lengths.filter((length) => length != null);
  const tokenizerConfig = (await readJson(folder, "tokenizer_config.json")) ?? {};
  const steps = await readSteps(folder);
  const { pooling, normalizes } = steps;
  return {
    graphPath,
    inputs: facts.inputs.map(toInput),
    output: tokenStates(facts).name,
    pooling,
    normalizes,
    digest: await digestOf(weights, [tokenizer, tokenizerConfig, steps, known]),
    tokenizer: { tokenizer, config: tokenizerConfig },
    tokensMax: known.length > 0 ? Math.min(...known) : lengthWhereNoneIsSaid,
    vocabSize: config.vocab_size ?? Number.POSITIVE_INFINITY,
    files: [...weights, ...(await smallFiles(folder, steps.poolingFile))],
    sizeBytes,
  };
}

async function smallFiles(folder: string, poolingFile: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of [...smallFileNames, poolingFile]) {
    const path = join(folder, name);
    if (await stat(path).catch(() => undefined)) found.push(path);
  }
  return found;
}

/** A path that an ONNX file names is followed only into its own folder, links included. */
async function insideFolder(folder: string, name: string): Promise<string> {
  const path = join(folder, name);
  const [root, target] = await Promise.all([
    realpath(folder),
    realpath(path).catch(() => undefined),
  ]);
  const inside = target === undefined ? "" : relative(root, target);
  const isOutside = inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside);
  if (isAbsolute(name) || target === undefined || inside === "" || isOutside) {
    throw refusal(
      `The ONNX model keeps weights in '${name.slice(0, 200)}', which is no file of its folder.`,
    );
  }
  return target;
}

async function checkSize(paths: readonly string[], bytesMax: number): Promise<number> {
  const sizes = await Promise.all(paths.map((path) => stat(path)));
  const bytes = sizes.reduce((sum, { size }) => sum + size, 0);
  if (bytes <= bytesMax) return bytes;
  throw refusal(
    `The encoder has ${bytes} bytes, and ADAPTER_SERVER_ENCODER_BYTES_MAX allows ${bytesMax}.`,
  );
}

function toInput({ name, elementType }: OnnxValue): EncoderGraph["inputs"][number] {
  const known = inputNames.find((one) => one === name);
  if (known !== undefined && (elementType === 6 || elementType === 7)) {
    return { name: known, elementType };
  }
  throw refusal(
    `The ONNX model has an input '${name.slice(0, 100)}'; an encoder has ${inputNames.join(", ")}, as whole numbers.`,
  );
}

/** The output with a state for each token, by the names that exporters give it. */
function tokenStates({ outputs }: OnnxFacts): OnnxValue {
  const found = outputNames.flatMap((name) => outputs.filter((one) => one.name === name))[0];
  if (found && found.elementType === 1 && (found.rank ?? 3) === 3) return found;
  throw refusal(
    `The ONNX model has no output of ${outputNames.join(" or ")} in float32; it has ${outputs
      .map(({ name }) => name.slice(0, 100))
      .slice(0, 8)
      .join(", ")}.`,
  );
}

/** What is done with the states, as `modules.json` lists it; a step that we do not compute is refused by its name. */
async function readSteps(
  folder: string,
): Promise<{ pooling: EncoderPooling; normalizes: boolean; poolingFile: string }> {
  const modules = modulesFile.safeParse(await readJson(folder, "modules.json")).data;
  if (!modules) {
    throw refusal("The folder has no modules.json, which says how sentences are made of tokens.");
  }
  const steps = modules.map(({ type, path }) => ({ name: type.split(".").at(-1) ?? type, path }));
  const strange = steps.find(({ name }) => !["Transformer", "Pooling", "Normalize"].includes(name));
  if (strange) throw refusal(`modules.json: the step '${strange.name}' is not computed.`);
  const pooling = steps.find(({ name }) => name === "Pooling");
  if (!pooling || pooling.path.includes("..")) throw refusal("modules.json names no pooling.");
  const prompts = promptsFile.safeParse(
    await readJson(folder, "config_sentence_transformers.json"),
  );
  if (prompts.data?.default_prompt_name != null) {
    throw refusal("config_sentence_transformers.json: a default prompt is not set before texts.");
  }
  const poolingFile = `${pooling.path}/config.json`;
  return {
    pooling: await readPooling(folder, poolingFile),
    poolingFile,
    normalizes: steps.some(({ name }) => name === "Normalize"),
  };
}

async function readPooling(folder: string, name: string): Promise<EncoderPooling> {
  const file = poolingSettings.safeParse(await readJson(folder, name)).data ?? {};
  // Either one name, or a flag for each way.
  const modes = Object.entries(file).flatMap(([key, value]) => {
    if (key === "pooling_mode" && typeof value === "string") return [value];
    return key.startsWith("pooling_mode_") && value === true ? [key.slice(13)] : [];
  });
  const known = poolingNames[modes[0] ?? ""];
  if (known !== undefined && modes.length === 1) return known;
  throw refusal(`${name}: pooling by '${modes.join("', '").slice(0, 200)}' is not computed.`);
}

async function digestOf(paths: readonly string[], settings: unknown): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(settings));
  for (const path of paths) for await (const part of createReadStream(path)) hash.update(part);
  return hash.digest("hex");
}

function refusal(message: string): HubError {
  return new HubError("unsupported_model", message);
}

const inputNames = ["input_ids", "attention_mask", "token_type_ids"] as const;
type InputName = (typeof inputNames)[number];
const outputNames = ["last_hidden_state", "token_embeddings"];
const graphNames = ["model.onnx", "onnx/model.onnx"];
/** As sentence-transformers' `Pooling` writes them, in older files and in newer ones. */
const poolingNames: Record<string, EncoderPooling | undefined> = {
  cls_token: "cls",
  cls: "cls",
  mean_tokens: "mean",
  mean: "mean",
  max_tokens: "max",
  max: "max",
  lasttoken: "last",
};
const smallFileNames = [
  "config.json",
  "config_sentence_transformers.json",
  "modules.json",
  "sentence_bert_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
];
const lengthWhereNoneIsSaid = 512;

const configFile = z.looseObject({
  max_position_embeddings: z.int().positive().nullish().catch(undefined),
  vocab_size: z.int().positive().nullish().catch(undefined),
});
const sentenceFile = z.looseObject({
  max_seq_length: z.int().positive().nullish().catch(undefined),
});
const promptsFile = z.looseObject({ default_prompt_name: z.string().nullish() });
const modulesFile = z
  .array(z.looseObject({ type: z.string().max(200), path: z.string().max(200) }))
  .min(1)
  .max(8);
const poolingSettings = z.record(z.string(), z.unknown());
