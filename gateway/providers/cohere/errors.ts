/** Cohere's failures, told as our client should act on them. */
import { type ErrorCode, HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { readRetryAfter, safeWords } from "../upstream-words.ts";
import { parseJson } from "./response.ts";
import { cohereError } from "./schema.ts";

/**
 * 498 is a token on Cohere's own list of what may not be said, and so the client's to mend; 499 is that we left.
 * @param upstream the upstream's name
 * @see https://docs.cohere.com/reference/errors
 */
export function readCohereError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const { status } = response;
  const told = cohereError.safeParse(parseJson(body)).data?.message;
  const words = told === undefined ? undefined : safeWords(told);
  const retryAfterMs = readRetryAfter(response);
  const quoting = (code: ErrorCode, what: string): HubError => {
    const unquoted = `${what} with status ${status}.`;
    const message = words === undefined ? unquoted : `${what}: ${words}`;
    return new HubError(code, message, { retryAfterMs, unquoted });
  };
  switch (status) {
    case 401:
    case 403:
      // Its message may name our credential, so it stays in the log's status alone.
      return new HubError(
        "upstream_auth_failed",
        `The upstream '${upstream}' refused this gateway's credentials (${status}). Its operator has to renew them.`,
      );
    case 402:
      return new HubError("upstream_unavailable", `The upstream '${upstream}' has no credit left.`);
    case 404:
      return quoting(
        "upstream_model_not_found",
        `The upstream '${upstream}' does not know the model`,
      );
    case 408:
    case 504:
      return quoting("upstream_timeout", `The upstream '${upstream}' timed out`);
    case 429:
      return quoting("rate_limit_exceeded", `The upstream '${upstream}' is rate limited`);
    case 503:
      return quoting("upstream_unavailable", `The upstream '${upstream}' is overloaded`);
    default:
      if (status < 400 || status >= 500) {
        return quoting("upstream_error", `The upstream '${upstream}' failed`);
      }
  }
  const refusal = quoting(clientCode(status, words), "The upstream refused the request");
  if (words === undefined) return refusal;
  return new HubError(refusal.code, words, { retryAfterMs, unquoted: refusal.unquoted });
}

function clientCode(status: number, words = ""): ErrorCode {
  if (status === 413) return "request_too_large";
  return /too many tokens/i.test(words) ? "context_length_exceeded" : "invalid_value";
}
