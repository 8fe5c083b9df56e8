/** The fields that are read from OpenAI-compatible answers; all else passes by. */
import { z } from "zod";

/** Counts are inclusive: `prompt_tokens` contains the cached, `completion_tokens` the reasoning. */
export const openAiUsage = z.object({
  prompt_tokens: z.int().nonnegative(),
  completion_tokens: z.int().nonnegative(),
  total_tokens: z.int().nonnegative().nullish(),
  prompt_tokens_details: z
    .object({
      cached_tokens: z.int().nonnegative().nullish(),
      cache_write_tokens: z.int().nonnegative().nullish(),
      audio_tokens: z.int().nonnegative().nullish(),
    })
    .nullish(),
  completion_tokens_details: z
    .object({
      reasoning_tokens: z.int().nonnegative().nullish(),
      audio_tokens: z.int().nonnegative().nullish(),
    })
    .nullish(),
});

const choice = z.object({
  /** Of an older completion. */
  text: z.string().nullish().catch(undefined),
  message: z
    .object({
      content: z.string().nullish().catch(undefined),
      refusal: z.string().nullish().catch(undefined),
      reasoning_content: z.string().nullish().catch(undefined),
      reasoning: z.string().nullish().catch(undefined),
      tool_calls: z
        .array(z.object({ function: z.object({ arguments: z.string().nullish() }).nullish() }))
        .nullish()
        .catch(undefined),
    })
    .nullish(),
});
export type OpenAiChoice = z.infer<typeof choice>;

export const openAiAnswer = z.object({ choices: z.array(choice), usage: z.unknown().optional() });
/** Vectors have no output that is counted. */
export const openAiVectors = z.looseObject({
  data: z.array(z.looseObject({ embedding: z.unknown() })),
  usage: z.looseObject({ prompt_tokens: z.int().nonnegative() }).nullish().catch(undefined),
});
export type OpenAiVectors = z.infer<typeof openAiVectors>;
export type OpenAiAnswer = z.infer<typeof openAiAnswer>;

/** An `error` is an object at OpenAI and vLLM, a string at some that are compatible. */
export const openAiError = z.object({
  error: z.union([
    z.object({
      message: z.string().nullish(),
      type: z.string().nullish(),
      param: z.string().nullish(),
      code: z.union([z.string(), z.number()]).nullish(),
    }),
    z.string(),
  ]),
});

export const bareError = z.union([
  z.object({
    object: z.literal("error"),
    message: z.string(),
    code: z.union([z.string(), z.number().transform(String)]).nullish(),
  }),
  z.object({ detail: z.array(z.object({ msg: z.string() })).min(1) }),
]);

const logprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z
    .array(z.number())
    .nullish()
    .transform((bytes) => bytes ?? []),
});
/** A token of the answer, and the likeliest in its place. */
export const contentLogprob = logprob.extend({
  top_logprobs: z
    .array(logprob)
    .nullish()
    .transform((likeliest) => likeliest ?? []),
});
