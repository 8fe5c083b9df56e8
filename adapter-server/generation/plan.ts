/** What every route that generates text can be asked for beside its prompt, checked and in the engine's terms. */
import { z } from "zod";
import { chatRequest } from "../../sdk/protocol/chat.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Expression, GrammarText, GrammarTextLimits } from "../output/grammar/grammar-text.ts";
import type { Grammar } from "../output/grammar/matchers.ts";
import {
  readStructuredOutput,
  structuredOutputFields,
} from "../output/grammar/structured-output.ts";
import {
  readSampling,
  refuseMoreThan,
  refuseUnknownTokens,
  type SamplingLimits,
  type SamplingPlan,
  samplingFields,
} from "./sampling.ts";
import { adapterMix, readTarget, type Target } from "./target.ts";

export type GenerationPlan = {
  /** As the client wrote it, for the answer. */
  model: string;
  target: Target;
  /** The field that has the prompt, for messages about its length. */
  promptField: "messages" | "prompt" | "inputs";
  /** Absent: as much as fits; 0: the prompt alone is of interest. */
  maxTokens: number | undefined;
  choices: number;
  sampling: SamplingPlan;
  /** How many of the likeliest tokens to tell with each token; absent: no log-probabilities. */
  logprobs: number | undefined;
  /** The same for each token of the prompt but the first. */
  promptLogprobs: number | undefined;
  /** Only so many tokens of the prompt's end; `fit` is as many as leave room for the answer. */
  promptTokensMax: number | "fit" | undefined;
  /** What the answer has to match, up to its end. */
  grammar: Grammar | undefined;
  stop: string[];
  stopTokens: number[];
  ignoreEos: boolean;
  /** Lower is earlier. */
  priority: number;
  /** Whether the answer's text has what ended it. */
  includeStop: boolean;
  /** Whether control tokens are left out of the answer's text. */
  skipSpecialTokens: boolean;
  /** Whether the answer tells the prompt's tokens and its own by their ids. */
  returnsTokenIds: boolean;
  stream: boolean;
  includeUsage: boolean;
};

const { model, stream, max_tokens, n } = chatRequest.shape;
const stopString = z.string().max(1024);

/** The fields that all these routes share: OpenAI's, vLLM's under its names, and ours. */
export const generationFields = {
  ...samplingFields,
  ...structuredOutputFields,
  model,
  stream,
  max_tokens,
  n,
  stop: z.union([stopString, z.array(stopString)]).nullish(),
  stream_options: z
    .strictObject({
      include_usage: z.boolean().nullish(),
      // Padding against eavesdroppers, of no meaning behind a gateway.
      include_obfuscation: z.boolean().nullish(),
      continuous_usage_stats: z.literal(false).nullish(),
    })
    .nullish(),
  adapters: adapterMix,
  /** As vLLM has it, within bounds, so that what comes last still rises to its turn in time. */
  priority: z.int().min(-10).max(10).nullish(),
  /** As vLLM has it: decode on past the end of the answer, for measuring. */
  ignore_eos: z.boolean().nullish(),
  stop_token_ids: z.array(z.int().nonnegative()).nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  skip_special_tokens: z.boolean().nullish(),
  prompt_logprobs: z.int().min(0).max(20).nullish(),
  return_token_ids: z.boolean().nullish(),
  /** Keeps the prompt's end; -1 for as much as fits. */
  truncate_prompt_tokens: z.int().min(-1).nullish(),
};
const generationRequest = z.object(generationFields);

export type GenerationLimits = SamplingLimits &
  GrammarTextLimits & {
    baseId: string;
    choicesMax: number;
    mixPartsMax: number;
    stopsMax: number;
  };

/**
 * @param own what each route reads in its own way
 * @throws HubError that names the field
 */
export function readGeneration(
  request: z.infer<typeof generationRequest>,
  limits: GenerationLimits,
  own: { calls?: ((text: GrammarText) => Expression) | undefined } & Pick<
    GenerationPlan,
    "promptField" | "logprobs" | "maxTokens"
  >,
): GenerationPlan {
  const choices = request.n ?? 1;
  if (choices > limits.choicesMax) {
    throw new HubError(
      "number_out_of_range",
      `Invalid 'n': expected at most ${limits.choicesMax}.`,
      { param: "n" },
    );
  }
  const stop = [request.stop ?? []].flat();
  const stopTokens = request.stop_token_ids ?? [];
  refuseMoreThan(limits.stopsMax, stop, "stop");
  refuseMoreThan(limits.stopsMax, stopTokens, "stop_token_ids");
  refuseUnknownTokens(stopTokens, limits.vocabSize, "stop_token_ids");
  const sampling = readSampling(request, limits);
  if (own.maxTokens !== undefined && (sampling.minTokens ?? 0) > own.maxTokens) {
    throw new HubError(
      "invalid_value",
      "'min_tokens' is more than the answer may have; lower it, or raise 'max_tokens'.",
      { param: "min_tokens" },
    );
  }
  if (request.prompt_logprobs != null && request.stream) {
    throw new HubError(
      "invalid_value",
      "'prompt_logprobs' are told in whole answers only; leave 'stream' out.",
      { param: "prompt_logprobs" },
    );
  }
  const truncate = request.truncate_prompt_tokens ?? undefined;
  return {
    ...own,
    model: request.model,
    target: readTarget(request, limits),
    choices,
    sampling,
    promptLogprobs: request.prompt_logprobs ?? undefined,
    promptTokensMax: truncate === -1 ? "fit" : truncate,
    grammar: readStructuredOutput(request, limits, own.calls),
    stop,
    stopTokens,
    ignoreEos: request.ignore_eos ?? false,
    priority: request.priority ?? 0,
    includeStop: request.include_stop_str_in_output ?? false,
    skipSpecialTokens: request.skip_special_tokens ?? true,
    returnsTokenIds: request.return_token_ids ?? false,
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
  };
}
