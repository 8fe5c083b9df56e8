/** How a request wants its tokens chosen: OpenAI's and vLLM's fields, checked, and as the engine takes them. */
import { z } from "zod";
import { chatRequest } from "../../sdk/protocol/chat.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Sampling } from "../engine/sampler.ts";
import type { GenerationDefaults } from "../models/import-model.ts";
import type { Tokenizer } from "../models/tokenizer.ts";

const { temperature, top_p } = chatRequest.shape;
const tokenId = z.int().nonnegative();
const count = z
  .int()
  .min(0)
  .max(1 << 24);

/** Every one may be null or absent for what the model's own settings say, or for nothing at all. */
export const samplingFields = {
  temperature,
  top_p,
  seed: z.int().nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: z.record(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100)).nullish(),
  /** The rest as vLLM has it: draw from this many of the likeliest tokens. */
  top_k: z.int().min(-1).nullish(),
  /** Draw from tokens that are at least this likely, against the likeliest. */
  min_p: z.number().min(0).max(1).nullish(),
  /** Makes what was said already less likely. */
  repetition_penalty: z.number().min(0.01).max(100).nullish(),
  /** Nothing ends the answer before so many tokens. */
  min_tokens: count.nullish(),
  allowed_token_ids: z.array(tokenId).min(1).nullish(),
  bad_words: z.array(z.string().min(1).max(256)).nullish(),
};
const samplingRequest = z.object(samplingFields);

export type SamplingLimits = { vocabSize: number; logitBiasMax: number; badWordsMax: number };

/** What a client asks for; absent is what the model's own settings say. */
export type SamplingPlan = Partial<Omit<Sampling, "badWords" | "stream">> & { badWords: string[] };

/** @throws HubError that names the field */
export function readSampling(
  request: z.infer<typeof samplingRequest>,
  limits: SamplingLimits,
): SamplingPlan {
  const { logit_bias, allowed_token_ids, bad_words } = request;
  const biases = Object.entries(logit_bias ?? {}).map(
    ([token, bias]) => [Number(token), bias] as const,
  );
  refuseMoreThan(limits.logitBiasMax, biases, "logit_bias");
  refuseMoreThan(limits.badWordsMax, bad_words ?? [], "bad_words");
  const biased = biases.map(([token]) => token);
  refuseUnknownTokens(biased, limits.vocabSize, "logit_bias");
  refuseUnknownTokens(allowed_token_ids ?? [], limits.vocabSize, "allowed_token_ids");
  const asked = {
    temperature: request.temperature,
    topP: request.top_p,
    // vLLM writes "all" as -1 or 0.
    topK: request.top_k == null ? undefined : Math.max(0, request.top_k),
    minP: request.min_p,
    seed: request.seed,
    repetitionPenalty: request.repetition_penalty,
    frequencyPenalty: request.frequency_penalty,
    presencePenalty: request.presence_penalty,
    minTokens: request.min_tokens,
    logitBias: biases.length > 0 ? biases : undefined,
    allowedTokens: allowed_token_ids ? [...new Set(allowed_token_ids)] : undefined,
  };
  const given = Object.entries(asked).filter(([, value]) => value != null);
  return { ...Object.fromEntries(given), badWords: bad_words ?? [] };
}

/** The model's own settings where the client has none. */
export function toSampling(
  { badWords, ...asked }: SamplingPlan,
  parts: {
    defaults: GenerationDefaults;
    tokenizer: Pick<Tokenizer, "encode" | "quote">;
    newSeed: () => number;
  },
): Sampling {
  const { defaults, tokenizer, newSeed } = parts;
  const words = badWords.flatMap((word) => runsOf(word, tokenizer));
  return {
    temperature: defaults.temperature ?? 1,
    topP: defaults.topP ?? 1,
    topK: defaults.topK ?? 0,
    repetitionPenalty: defaults.repetitionPenalty ?? 1,
    seed: asked.seed ?? newSeed(),
    stream: 0,
    ...asked,
    ...(words.length > 0 && { badWords: words }),
  };
}

/** @throws HubError `number_out_of_range` for a token that the model does not have */
export function refuseUnknownTokens(
  tokens: readonly number[],
  vocabSize: number,
  param: string,
): void {
  const unknown = tokens.find((token) => token >= vocabSize);
  if (unknown === undefined) return;
  throw new HubError(
    "number_out_of_range",
    `Invalid '${param}': there is no token ${unknown}; this model's last one is ${vocabSize - 1}.`,
    { param },
  );
}

/** @throws HubError `number_out_of_range` */
export function refuseMoreThan(max: number, items: readonly unknown[], param: string): void {
  if (items.length <= max) return;
  throw new HubError(
    "number_out_of_range",
    `Invalid '${param}': expected at most ${max} entries, but got ${items.length}.`,
    { param },
  );
}

/**
 * A word as its tokens at the start of a text, and behind a space, where they may be others. vLLM leaves the second
 * out when there are fewer or more of them, and says the word.
 */
function runsOf(word: string, tokenizer: Pick<Tokenizer, "encode" | "quote">): number[][] {
  const bare = tokenizer.encode(tokenizer.quote(word.trimStart()));
  const spaced = tokenizer.encode(tokenizer.quote(` ${word.trimStart()}`));
  return [bare, spaced].filter((run) => run.length > 0);
}
