/** What a folder as Hugging Face's tools save it says of itself; no weight is read. */
import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  parseSafetensorsHeader,
  safetensorsHeaderBytes,
  type TensorEntry,
} from "../../../sdk/protocol/adapter/safetensors.ts";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { readJson, weightFiles } from "../checkpoint.ts";
import { quantizedLayout } from "../quantized/config.ts";
import type { PackedLayout } from "../quantized/packed-matrix.ts";
import type { SourceFacts } from "./source-facts.ts";
import { groupOf, groupTensors, type TensorGroup } from "./tensor-groups.ts";

/** @throws HubError `unsupported_model` when a file is missing or its header is not what it should be */
export async function readFolderFacts(folder: string): Promise<SourceFacts> {
  const config = await readJson(folder, "config.json");
  if (config === undefined) {
    throw new HubError("unsupported_model", `${folder} has no file 'config.json'.`);
  }
  const parsed = configFacts.safeParse(config);
  if (!parsed.success) {
    throw new HubError("unsupported_model", `config.json: ${z.prettifyError(parsed.error)}`);
  }
  const facts = parsed.data;
  const names = await readdir(folder);
  const weights = await weightFiles(folder);
  const stored = await Promise.all(weights.map((name) => readTensors(join(folder, name))));
  const tensors = toGroups(stored.flat(), layoutOf(facts.quantization_config));
  const embedding = tensors.filter(({ group }) => group === "embedding");
  return {
    architecture: facts.architectures?.[0] ?? "unknown",
    contextLength: facts.max_position_embeddings ?? undefined,
    layers: facts.num_hidden_layers ?? undefined,
    hiddenSize: facts.hidden_size ?? undefined,
    vocabSize: facts.vocab_size ?? undefined,
    parameters: sum(tensors.map(({ parameters }) => parameters)),
    sizeBytes: sum(tensors.map(({ sizeBytes }) => sizeBytes)),
    embeddingBytes: sum(embedding.map(({ sizeBytes }) => sizeBytes)),
    groups: groupTensors(tensors),
    tokenizer: await readTokenizerFacts(folder),
    hasChatTemplate: await hasChatTemplate(folder, names),
    licence: await readLicence(folder, names),
  };
}

async function readTensors(path: string): Promise<TensorEntry[]> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const limits = { errorCode: "unsupported_model" } as const;
    const start = new Uint8Array(Math.min(8, size));
    await file.read(start, 0, start.length, 0);
    const header = new Uint8Array(safetensorsHeaderBytes(start, size, limits));
    await file.read(header, 0, header.length, 8);
    return [...parseSafetensorsHeader(header, size, limits).tensors.values()];
  } finally {
    await file.close();
  }
}

/** A quantized matrix counts once, with as many parameters as it has when it is not packed. */
function toGroups(
  tensors: readonly TensorEntry[],
  layout: PackedLayout | undefined,
): TensorGroup[] {
  const packed = new Map<string, { weight: string; parameters: number }>();
  for (const { name, shape } of tensors) {
    if (!layout || !name.endsWith(layout.marker)) continue;
    const size = layout.sizeOf({ shape: () => shape });
    const module = name.slice(0, -layout.marker.length);
    const weight = `${module}.weight`;
    for (const { ending } of layout.partsOf(size)) {
      packed.set(`${module}${ending}`, { weight, parameters: 0 });
    }
    packed.set(name, { weight, parameters: size.out * size.in });
  }
  return tensors.map(({ name, dtype, shape, begin, end }) => {
    const part = packed.get(name);
    const sizeBytes = end - begin;
    if (part && layout) {
      const { weight, parameters } = part;
      const tensors = parameters > 0 ? 1 : 0;
      return { group: groupOf(weight), format: layout.format, tensors, parameters, sizeBytes };
    }
    const parameters = shape.reduce((product, length) => product * length, 1);
    return { group: groupOf(name), format: dtype.toLowerCase(), tensors: 1, parameters, sizeBytes };
  });
}

/** What an import would refuse is told as it is stored. */
function layoutOf(quantization: unknown): PackedLayout | undefined {
  try {
    return quantizedLayout(quantization);
  } catch {
    return undefined;
  }
}

async function readTokenizerFacts(folder: string): Promise<SourceFacts["tokenizer"]> {
  const path = join(folder, "tokenizer.json");
  const size = await stat(path).then(
    (found) => found.size,
    () => undefined,
  );
  if (size === undefined) return undefined;
  if (size > tokenizerBytesMax) return { type: "too large to read", tokens: 0 };
  const parsed = tokenizerFile.safeParse(await readJson(folder, "tokenizer.json"));
  if (!parsed.success) return { type: "unknown", tokens: 0 };
  const { model, added_tokens } = parsed.data;
  const ids = new Set(Object.keys(model.vocab ?? {}));
  for (const { content } of added_tokens ?? []) ids.add(content);
  return { type: model.type ?? "BPE", tokens: ids.size };
}

async function hasChatTemplate(folder: string, names: readonly string[]): Promise<boolean> {
  if (names.includes("chat_template.jinja") || names.includes("chat_template.json")) return true;
  const config = z.object({ chat_template: z.unknown() });
  const parsed = config.safeParse(await readJson(folder, "tokenizer_config.json"));
  return parsed.success && parsed.data.chat_template != null;
}

/** The `license` of a model card's front matter, else the first line of a licence file. */
async function readLicence(folder: string, names: readonly string[]): Promise<string | undefined> {
  const card = names.find((name) => name.toLowerCase() === "readme.md");
  if (card !== undefined) {
    const text = await readStart(join(folder, card));
    const [, matter = ""] = /^---\r?\n([\s\S]*?)\r?\n---/.exec(text) ?? [];
    const [, licence] = /^license:\s*["']?([\w .+-]{1,64}?)["']?\s*$/m.exec(matter) ?? [];
    if (licence !== undefined) return licence;
  }
  const file = names.find((name) => /^licen[cs]e(\.\w+)?$/i.test(name));
  if (file === undefined) return undefined;
  const lines = (await readStart(join(folder, file))).split("\n").map((line) => line.trim());
  return lines.find((line) => line !== "")?.slice(0, 80);
}

async function readStart(path: string): Promise<string> {
  const { size } = await stat(path);
  return size > textBytesMax ? "" : readFile(path, "utf8");
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

const tokenizerBytesMax = 256 * 2 ** 20;
const textBytesMax = 2 ** 20;
const configFacts = z.object({
  architectures: z.array(z.string()).nullish().catch(undefined),
  max_position_embeddings: z.number().nullish().catch(undefined),
  num_hidden_layers: z.number().nullish().catch(undefined),
  hidden_size: z.number().nullish().catch(undefined),
  vocab_size: z.number().nullish().catch(undefined),
  quantization_config: z.unknown().optional(),
});
const tokenizerFile = z.object({
  model: z.object({
    type: z.string().nullish(),
    vocab: z.looseObject({}).nullish().catch(undefined),
  }),
  added_tokens: z.array(z.object({ content: z.string() })).nullish(),
});
