/** Single tokens as answers show them. */
import type { ContentLogprob } from "../../sdk/protocol/chat.ts";
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
