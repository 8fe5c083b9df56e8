/** What every route that generates text can be asked for beside its prompt, checked and in the engine's terms. */
import { z } from "zod";
import { chatRequest } from "../../sdk/protocol/chat.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { adapterMix, readTarget, type Target } from "./target.ts";

export type GenerationPlan = {
  /** As the client wrote it, for the answer. */
  model: string;
  target: Target;
  /** Absent: as much as fits. */
  maxTokens: number | undefined;
  choices: number;
  temperature: number | undefined;
  topP: number | undefined;
  topK: number | undefined;
  repetitionPenalty: number | undefined;
  seed: number | undefined;
  /** How many of the likeliest tokens to tell with each token; absent: no log-probabilities. */
  logprobs: number | undefined;
  stop: string[];
  ignoreEos: boolean;
  stream: boolean;
  includeUsage: boolean;
};

const { model, stream, temperature, top_p, max_tokens, stop, n } = chatRequest.shape;

/** The fields that all these routes share: OpenAI's, vLLM's under its names, and ours. */
export const generationFields = {
  model,
  stream,
  temperature,
  top_p,
  max_tokens,
  stop,
  n,
  stream_options: z
    .strictObject({
      include_usage: z.boolean().nullish(),
      // Padding against eavesdroppers, of no meaning behind a gateway.
      include_obfuscation: z.boolean().nullish(),
      continuous_usage_stats: z.literal(false).nullish(),
    })
    .nullish(),
  seed: z.int().nullish(),
  adapters: adapterMix,
  /** As vLLM has it: draw from this many of the likeliest tokens. */
  top_k: z.int().min(-1).nullish(),
  /** As vLLM has it: makes what was said already less likely. */
  repetition_penalty: z.number().min(0.01).max(100).nullish(),
  /** As vLLM has it: decode on past the end of the answer, for measuring. */
  ignore_eos: z.boolean().nullish(),
};
const generationRequest = z.object(generationFields);

export type GenerationLimits = { baseId: string; choicesMax: number; mixPartsMax: number };

/**
 * @param own what each route reads in its own way
 * @throws HubError that names the field
 */
export function readGeneration(
  request: z.infer<typeof generationRequest>,
  limits: GenerationLimits,
  own: Pick<GenerationPlan, "logprobs" | "maxTokens">,
): GenerationPlan {
  const choices = request.n ?? 1;
  if (choices > limits.choicesMax) {
    throw new HubError(
      "number_out_of_range",
      `Invalid 'n': expected at most ${limits.choicesMax}.`,
      {
        param: "n",
      },
    );
  }
  return {
    ...own,
    model: request.model,
    target: readTarget(request, limits),
    choices,
    temperature: request.temperature ?? undefined,
    topP: request.top_p ?? undefined,
    // vLLM writes "all" as -1 or 0.
    topK: request.top_k == null ? undefined : Math.max(0, request.top_k),
    repetitionPenalty: request.repetition_penalty ?? undefined,
    seed: request.seed ?? undefined,
    stop: [request.stop ?? []].flat(),
    ignoreEos: request.ignore_eos ?? false,
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
  };
}
