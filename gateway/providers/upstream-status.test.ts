/** What a failure's status means is the same for every provider: who is asked next, and which key rests. */
import { expect, test } from "vitest";
import { mayFallBack, whereToRetry } from "../attempts/failure.ts";
import { readAnthropicError } from "./anthropic/errors.ts";
import { readBedrockError } from "./bedrock/errors.ts";
import { readCohereError } from "./cohere/errors.ts";
import { readGeminiError } from "./gemini/errors.ts";
import { readOpenAiError } from "./openai/errors.ts";
import { isOutOfQuota } from "./upstream-words.ts";

const words = "its words";
const providers = {
  openai: { read: readOpenAiError, body: { error: { message: words } } },
  anthropic: { read: readAnthropicError, body: { type: "error", error: { message: words } } },
  cohere: { read: readCohereError, body: { message: words } },
  gemini: { read: readGeminiError, body: { error: { message: words } } },
  bedrock: { read: readBedrockError, body: { message: words } },
};
const each = Object.entries(providers);
const unheaded = (status: number) => ({ status, header: () => undefined });
/** What each provider's reader makes of the words. */
const readEach = (status: number, said: string) =>
  each.map(([name, { read, body }]) => {
    const bytes = Buffer.from(JSON.stringify(body).replace(words, said.replaceAll('"', '\\"')));
    return [name, read(unheaded(status), bytes, "up")] as const;
  });

test.each([
  [400, "invalid_value"],
  [401, "upstream_auth_failed"],
  [402, "upstream_unavailable"],
  [403, "upstream_auth_failed"],
  [404, "upstream_model_not_found"],
  [408, "upstream_timeout"],
  [413, "request_too_large"],
  [422, "invalid_value"],
  [429, "rate_limit_exceeded"],
  [500, "upstream_error"],
  [502, "upstream_error"],
  [503, "upstream_unavailable"],
  [504, "upstream_timeout"],
  [529, "upstream_unavailable"],
])("status %i is told as %s, whoever sent it", (status, code) => {
  for (const [name, { read, body }] of each) {
    const error = read(unheaded(status), Buffer.from(JSON.stringify(body)), "up");
    expect([name, error.code]).toEqual([name, code]);
    // An empty account rests the key, and not the address.
    expect([name, isOutOfQuota(error)]).toEqual([name, status === 402]);
    // Logs and records get none of its words.
    expect(error.unquoted).not.toContain(words);
    const isOurs = [401, 402, 403].includes(status);
    expect([name, error.message.includes(words)]).toEqual([name, !isOurs]);
  }
});

test("what is no JSON is told by its status alone", () => {
  for (const [name, { read }] of each) {
    const page = Buffer.from("<h1>Bad gateway</h1>");
    const error = read({ status: 502, header: () => undefined }, page, "up");
    expect([name, error.message]).toEqual([name, "The upstream 'up' failed with status 502."]);
  }
});

test.each([
  "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
  "Your input exceeds the context window of this model. Please adjust your input and try again.",
  "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
  "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
  "prompt is too long: 200049 tokens > 200000 maximum",
  "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
  "The model returned the following errors: prompt is too long: 200049 tokens > 200000 maximum",
  "Input is too long for requested model.",
  "Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input.",
  "Too many input tokens. Max input tokens: 8192, request input token count: 11009",
  "too many tokens: total number of tokens in the prompt cannot exceed 4081",
  "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
  "the request exceeds the available context size, try increasing it",
  "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
  "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192.",
])("'%s' is a prompt that another model may have room for, whoever hosts the model", (said) => {
  for (const [name, error] of readEach(400, said)) {
    expect([name, error.code, mayFallBack(error)]).toEqual([name, "context_length_exceeded", true]);
  }
});

test.each([
  "This request has been blocked by our content filters. Please adjust your text prompt.",
  "Output blocked by content filtering policy",
])("'%s' is a filter's verdict, whoever hosts the model", (said) => {
  for (const [name, error] of readEach(400, said)) {
    expect([name, error.code]).toEqual([name, "content_filter"]);
  }
});

test.each([
  "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
  "Invalid 'input': string too long. Expected a string with maximum length 1048576.",
  "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens",
])("'%s' is the client's to mend", (said) => {
  for (const [name, error] of readEach(400, said)) {
    expect([name, error.code]).toEqual([name, "invalid_value"]);
  }
});

test("a credential in an upstream's words is not passed on", () => {
  const keys = ["sk-abcdefghijkl", "AIzaSyAbcdefghijkl", "ya29.abcdefghij", "AKIAIOSFODNN7EXAMPLE"];
  for (const key of keys) {
    for (const [name, error] of readEach(400, `The key ${key} is none.`)) {
      expect([name, error.message]).toEqual([name, "The key [key] is none."]);
    }
  }
});

test.each([
  ["AccessDeniedException", 403, "upstream_auth_failed", "elsewhere"],
  ["ExpiredTokenException", 403, "upstream_auth_failed", "elsewhere"],
  ["IncompleteSignature", 400, "upstream_auth_failed", "elsewhere"],
  ["RequestExpired", 400, "upstream_auth_failed", "elsewhere"],
  ["ServiceQuotaExceededException", 400, "rate_limit_exceeded", "same"],
  ["ThrottlingException", 429, "rate_limit_exceeded", "same"],
  ["ModelNotReadyException", 429, "upstream_unavailable", "same"],
  ["ModelTimeoutException", 408, "upstream_timeout", "elsewhere"],
  ["ModelErrorException", 424, "upstream_error", "same"],
  ["InternalServerException", 500, "upstream_error", "same"],
  ["ServiceUnavailableException", 503, "upstream_unavailable", "same"],
  ["ResourceNotFoundException", 404, "upstream_model_not_found", "elsewhere"],
])("Bedrock's %s with status %i falls back as %s", (type, status, code, where) => {
  const header = (name: string) => (name === "x-amzn-errortype" ? `${type}:http://x/` : undefined);
  const named = readBedrockError({ status, header }, Buffer.from('{"message":"No."}'), "up");
  const typed = { __type: `com.amazon#${type}`, Message: "No." };
  const told = readBedrockError(unheaded(status), Buffer.from(JSON.stringify(typed)), "up");
  for (const error of [named, told]) {
    expect([error.code, mayFallBack(error), whereToRetry(error, false)]).toEqual([
      code,
      true,
      where,
    ]);
  }
});

test.each([
  "The provided model identifier is invalid.",
  "Invocation of model ID x with on-demand throughput isn’t supported. Retry with an inference profile.",
])("Bedrock's '%s' is our name for the model, and not the client's", (message) => {
  const body = { __type: "ValidationException", message };
  const error = readBedrockError(unheaded(400), Buffer.from(JSON.stringify(body)), "up");
  expect([error.code, mayFallBack(error)]).toEqual(["upstream_model_not_found", true]);
});

test("an account that has reached what it may spend rests its key, whatever the status", () => {
  const anthropic = (status: number, error: object) =>
    readAnthropicError(
      unheaded(status),
      Buffer.from(JSON.stringify({ type: "error", error })),
      "up",
    );
  const limit =
    "You have reached your specified workspace API usage limits. You will regain access";
  const payment = {
    __type: "AccessDeniedException",
    message: "Model access is denied due to INVALID_PAYMENT_INSTRUMENT",
  };
  const empty = [
    anthropic(400, { type: "invalid_request_error", message: limit }),
    anthropic(429, {
      type: "rate_limit_error",
      message: "No.",
      details: { error_code: "enforced_spend_limit_reached" },
    }),
    readBedrockError(unheaded(403), Buffer.from(JSON.stringify(payment)), "up"),
  ];
  for (const error of empty) {
    expect([error.code, isOutOfQuota(error)]).toEqual(["upstream_unavailable", true]);
  }
});
