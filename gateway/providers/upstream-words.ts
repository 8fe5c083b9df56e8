/** What upstreams say about their failures, made fit for a client. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { TransportResponse } from "./transport.ts";

/** Our account there is empty: the upstream is well, and another key of it may do. */
export function outOfQuota(message: string): HubError {
  return new OutOfQuota("upstream_unavailable", message);
}

export function isOutOfQuota(error: HubError): boolean {
  return error instanceof OutOfQuota;
}

class OutOfQuota extends HubError {}

/** A provider's words go to the client without anything that looks like a credential: OpenAI's, Google's, AWS's. */
export function safeWords(message: string): string {
  return message.slice(0, wordsCharsMax).replace(credentials, "[key]");
}

/** Whether the prompt does not fit the model: of all errors that are told in words alone, the one that another model may mend. */
export function isTooLong(words: string): boolean {
  return tooLong.some((pattern) => pattern.test(words));
}

/** Whether a filter of the provider's, and no rule of its API, refused the request. */
export function isFiltered(words: string): boolean {
  return /blocked by (?:our |the )?content filter/i.test(words);
}

/** Milliseconds from `retry-after-ms`, or `retry-after` in seconds or as a date by the upstream's own clock; at most a minute. */
export function readRetryAfter(response: Pick<TransportResponse, "header">): number | undefined {
  const ms = Number(response.header("retry-after-ms") ?? Number.NaN);
  if (ms > 0) return Math.min(ms, retryAfterMsMax);
  const text = response.header("retry-after");
  if (text === undefined) return undefined;
  const seconds = Number(text);
  const wait = Number.isNaN(seconds)
    ? Date.parse(text) - Date.parse(response.header("date") ?? "")
    : seconds * 1000;
  return wait > 0 ? Math.min(wait, retryAfterMsMax) : undefined;
}

const credentials =
  /\b(?:(?:sk|pk|rk|Bearer)[-_ ][\w*.-]{6,}|(?:AIza|ya29\.)[\w.*-]{6,}|(?:AKIA|ASIA|ABSK)[\w+/=-]{6,})/g;
const tooLong = [
  // OpenAI, Azure, vLLM, Mistral, DeepSeek, OpenRouter; xAI ("prompt"), TensorRT-LLM ("input").
  /maximum (?:context|prompt|input|model) length/i,
  // OpenAI ("the context window"), Anthropic ("context limit"), llama.cpp ("the available context size").
  /exceed(?:s|ed)? (?:the )?(?:available |model's )?context/i,
  // SGLang.
  /longer than the model's context/i,
  // Anthropic and Fireworks ("prompt"), Bedrock ("Input is too long for requested model").
  /(?:prompt|input) is too long/i,
  // Gemini ("input token count (…) exceeds the maximum"), Nova ("Number of input tokens exceeds maximum length").
  /input token[^.]{0,60} exceeds (?:the )?maximum/i,
  // Cohere, Titan ("Too many input tokens").
  /too many (?:input )?tokens/i,
  // TGI.
  /`inputs` tokens \+ `max_new_tokens` must be/i,
];
const wordsCharsMax = 2000;
/** The official SDKs ignore anything longer and then retry at once. */
const retryAfterMsMax = 60_000;
