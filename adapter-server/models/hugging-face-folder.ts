/** A model as Hugging Face's tools save it: a folder of safetensors and JSON files. */
import { basename, join } from "node:path";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { Checkpoint, readJson, readText, weightFiles } from "./checkpoint.ts";
import { familyOf } from "./families/known.ts";
import { type FileDigests, modelDigest } from "./model-digest.ts";
import type { ModelSource } from "./model-source.ts";
import { QuantizedCheckpoint } from "./quantized/checkpoint.ts";
import { quantizedLayout } from "./quantized/config.ts";

/** @throws HubError `unsupported_model` that names what is missing or not computed */
export async function openFolder(folder: string, known?: FileDigests): Promise<ModelSource> {
  const config = await required(folder, "config.json");
  const family = familyOf(config);
  const { quantization_config: quantization, ...plain } = configFile.parse(config);
  const spec = family.readSpec(plain);
  const layout = quantizedLayout(quantization);
  const decisive = ["config.json", "tokenizer.json", ...(await weightFiles(folder))];
  const tokenizerConfig = (await readJson(folder, "tokenizer_config.json")) ?? {};
  const generation = await readJson(folder, "generation_config.json");
  return {
    name: basename(folder),
    spec,
    digest: await modelDigest(new Map(decisive.map((name) => [name, join(folder, name)])), known),
    tokenizer: { tokenizer: await required(folder, "tokenizer.json"), config: tokenizerConfig },
    chatTemplate: await readChatTemplate(folder, tokenizerConfig),
    generation: parseGeneration(generation ?? {}),
    async openWeights() {
      const files = await Checkpoint.open(folder);
      return layout ? QuantizedCheckpoint.open(files, layout) : files;
    },
  };
}

async function required(folder: string, name: string): Promise<unknown> {
  const content = await readJson(folder, name);
  if (content !== undefined) return content;
  throw new HubError("unsupported_model", `The model folder has no file '${name}'.`);
}

function parseGeneration(content: unknown): GenerationConfig {
  const parsed = generationConfig.safeParse(content);
  if (parsed.success) return parsed.data;
  throw new HubError(
    "unsupported_model",
    `generation_config.json: ${z.prettifyError(parsed.error)}`,
  );
}

/** A file of its own since transformers 4.43; inside tokenizer_config.json before. */
async function readChatTemplate(
  folder: string,
  tokenizerConfig: unknown,
): Promise<string | undefined> {
  const own = await readText(folder, "chat_template.jinja");
  if (own !== undefined) return own;
  const template = templates.safeParse(tokenizerConfig).data?.chat_template;
  if (typeof template === "string") return template;
  return template?.find(({ name }) => name === "default")?.template;
}

/** Whatever the family: its own fields are checked by it. */
const configFile = z.looseObject({ quantization_config: z.unknown().optional() });

/** What we read of `generation_config.json`. */
const generationConfig = z.object({
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  do_sample: z.boolean().nullish(),
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  top_k: z.int().nullish(),
  repetition_penalty: z.number().positive().nullish(),
});
export type GenerationConfig = z.infer<typeof generationConfig>;

const templates = z.object({
  chat_template: z
    .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))])
    .nullish(),
});
