/** `POST /v1/completions`: the request as clients may send it, the answer and its stream as we send it. */
import { z } from "zod";
import { type ChatUsage, chatRequest, type FinishReason, type PromptLogprobEntry } from "./chat.ts";
import { textInput } from "./text-input.ts";

const { model, stream, stream_options, temperature, top_p, seed, n, user } = chatRequest.shape;

/** Other fields survive untouched, because a provider behind the gateway may want them. `null` means the default. */
export const textCompletionRequest = z.looseObject({
  ...{ model, stream, stream_options, temperature, top_p, seed, n, user },
  /** A text or some, a text's tokens or those of some. */
  prompt: textInput,
  /** None is for scoring the prompt with `echo`. */
  max_tokens: z
    .int()
    .min(0)
    .max(1 << 24)
    .nullish(),
  /** Whether the prompt stands at the start of the text. */
  echo: z.boolean().nullish(),
  best_of: z.int().min(1).max(128).nullish(),
  /** OpenAI tells 5 at most; vLLM as many as for chat. */
  logprobs: z.int().min(0).max(20).nullish(),
});

/** Lists of one length. The first token of a prompt has nothing before it, and so no probability. */
export type TextLogprobs = {
  tokens: string[];
  token_logprobs: (number | null)[];
  /** The likeliest by their text, and the token itself where it is not among them. */
  top_logprobs: (Record<string, number> | null)[];
  /** Where the token begins in the text, in characters. */
  text_offset: number[];
};

export type TextCompletion = {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: {
    index: number;
    text: string;
    logprobs: TextLogprobs | null;
    finish_reason: FinishReason;
    /** vLLM's: the request's own stop string or token that ended the answer; null where something else did. */
    stop_reason?: number | string | null;
    /** vLLM's, where `return_token_ids` asks for them. */
    token_ids?: readonly number[];
    prompt_token_ids?: readonly number[];
    prompt_logprobs?: PromptLogprobEntry[];
  }[];
  usage: ChatUsage;
  system_fingerprint: string;
};
