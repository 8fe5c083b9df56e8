/** OpenAI's older completions and its embeddings, which pass to upstreams that speak them; vectors are translated for nobody. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import { type BodyLimits, type JsonBody, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { FormatName } from "../../providers/format.ts";
import type { Call, Dialect } from "../dialect.ts";
import { openAiChat } from "../openai-chat/index.ts";
import { CompletionWriter, writeCompletion } from "../openai-completions/answer.ts";
import { defaultTokens, readCanonicalCompletion } from "../openai-completions/canonical.ts";

/** Errors and streams are told as a chat's are. */
export const openAiCompletions: Dialect = {
  ...openAiChat,
  format: "openai-completions",
  writeAnswer: writeCompletion,
  openWriter: (head) => new CompletionWriter(head),
};
export const openAiEmbeddings: Dialect = { ...openAiChat, format: "openai-embeddings" };

/** @throws HubError naming the field */
export async function readCompletionsCall(request: Request, limits: BodyLimits): Promise<Call> {
  const json = await readJson(request, limits);
  const read = parseOrThrow(completionsRequest, json.value);
  const prompts = Array.isArray(read.prompt) && !isTokens(read.prompt) ? read.prompt.length : 1;
  return {
    ...passingCall(json, openAiCompletions, read.model),
    stream: read.stream === true,
    wantsUsage: read.stream_options?.include_usage === true,
    // Of the old default, and of a text that only wants to be told how likely it was.
    outputTokensMax: read.max_tokens ?? defaultTokens,
    choices: prompts * Math.max(read.n ?? 1, read.best_of ?? 1),
    texts: () => textsOf(read.prompt, read.suffix),
    canonical: () => readCanonicalCompletion(json.value as Call["body"]),
  };
}

/** @throws HubError naming the field */
export async function readEmbeddingsCall(request: Request, limits: BodyLimits): Promise<Call> {
  const json = await readJson(request, limits);
  const { model, input } = parseOrThrow(embeddingsRequest, json.value);
  return {
    ...passingCall(json, openAiEmbeddings, model),
    outputTokensMax: 0,
    texts: () => textsOf(input),
    tariffs: ({ inputTokens }) => [[{ quantity: inputTokens, meters: ["input"] }]],
  };
}

/** @throws HubError as `readJsonBody` does, and `invalid_value` for one that is nested too deeply */
export async function readJson(request: Request, limits: BodyLimits): Promise<JsonBody> {
  const json = await readJsonBody(request, limits);
  refuseDeeper(json, limits.nestingMax);
  return json;
}

/** What passes as it came, or not at all. */
function passingCall({ value, text, bytes }: JsonBody, dialect: Dialect, model: string) {
  const body = value as Readonly<Record<string, unknown>>;
  return {
    dialect,
    model,
    body,
    ...(mayLoseNumbers(text) && { source: { value: body, text } }),
    bodyBytes: bytes,
    stream: false,
    wantsUsage: false,
    choices: 1,
    metadata: undefined,
    images: () => 0,
    canonical() {
      throw cannotPass(dialect.format);
    },
  } as const;
}

function textsOf(input: z.infer<typeof texts>, suffix?: string | null) {
  const parts = [input, suffix ?? []].flat(2);
  const all = parts.filter((part) => typeof part === "string");
  return {
    system: "",
    user: all.join("\n"),
    all,
    tokenIds: parts.length - all.length,
    schemas: "",
  };
}

function isTokens(input: readonly unknown[]): boolean {
  return typeof input[0] === "number";
}

/** Why a request of a format that is only passed on finds nobody to take it. */
export function cannotPass(format: FormatName): HubError {
  return new HubError("unsupported_model", unsupported[format] ?? "", { param: "model" });
}

const unsupported: { [format in FormatName]?: string } = {
  "openai-embeddings": "This model's provider answers chats and tells no embeddings.",
  "openai-moderations":
    "This model's provider has no moderation. Name a model of one that has, such as OpenAI's.",
  "openai-image-generations": "This model's provider makes no images at /v1/images/generations.",
  "openai-image-edits": "This model's provider edits no images at /v1/images/edits.",
  "openai-image-variations": "This model's provider varies no images at /v1/images/variations.",
  "openai-speech": "This model's provider speaks no texts at /v1/audio/speech.",
  "openai-transcriptions":
    "This model's provider transcribes no audio at /v1/audio/transcriptions.",
  "openai-realtime": "This model's provider has no realtime sessions.",
  "openai-translations": "This model's provider translates no audio at /v1/audio/translations.",
};

const token = z.int().nonnegative();
const texts = z.union([
  z.string(),
  z.array(z.string()).min(1),
  z.array(token).min(1),
  z.array(z.array(token).min(1)).min(1),
]);
const count = z
  .int()
  .min(0)
  .max(1 << 24)
  .nullish();
export const completionsRequest = z.looseObject({
  model: z.string().min(1).max(512),
  prompt: texts,
  suffix: z.string().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  max_tokens: count,
  n: z.int().min(1).max(128).nullish(),
  best_of: z.int().min(1).max(128).nullish(),
});
export const embeddingsRequest = z.looseObject({ model: z.string().min(1).max(512), input: texts });
