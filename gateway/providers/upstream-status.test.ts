/** What a failure's status means is the same for every provider: who is asked next, and which key rests. */
import { expect, test } from "vitest";
import { readAnthropicError } from "./anthropic/errors.ts";
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
};
const each = Object.entries(providers);

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
    const error = read(
      { status, header: () => undefined },
      Buffer.from(JSON.stringify(body)),
      "up",
    );
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
