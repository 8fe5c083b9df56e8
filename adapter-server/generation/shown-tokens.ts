/** Single tokens as answers show them. */
import type { ContentLogprob, PromptLogprobEntry } from "../../sdk/protocol/chat.ts";
import type { PromptLogprobs } from "../engine/logprobs.ts";
import type { Tokenizer } from "../models/tokenizer.ts";
import type { ChosenToken } from "./choices.ts";

/** A token's text; bytes that are part of a character come out as U+FFFD. */
function textOf(token: number, tokenizer: Pick<Tokenizer, "bytesOf">): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(tokenizer.bytesOf(token));
}

/** OpenAI's shape for chat: with the exact bytes beside the text. */
export function toContentLogprob(
  { token, logprob, top }: ChosenToken,
  tokenizer: Pick<Tokenizer, "bytesOf">,
): ContentLogprob {
  const show = (one: { token: number; logprob: number }) => ({
    token: textOf(one.token, tokenizer),
    logprob: one.logprob,
    bytes: [...tokenizer.bytesOf(one.token)],
  });
  return { ...show({ token, logprob }), top_logprobs: top.map(show) };
}

/**
 * vLLM's shape for prompts: nothing of the first token, then each token and the likeliest in its place.
 * @param count how many of the likeliest to show, where more were found
 */
export function toPromptLogprobs(
  scored: readonly PromptLogprobs[],
  tokenizer: Pick<Tokenizer, "bytesOf">,
  count = Number.POSITIVE_INFINITY,
): PromptLogprobEntry[] {
  const entries = scored.map(({ token, logprob, rank, top }) => {
    const likeliest = top.slice(0, count).map((one, index) => ({ ...one, rank: index + 1 }));
    const all = [...likeliest, { token, logprob, rank }];
    return Object.fromEntries(
      all.map((one) => [
        String(one.token),
        { logprob: one.logprob, rank: one.rank, decoded_token: textOf(one.token, tokenizer) },
      ]),
    );
  });
  return [null, ...entries];
}
