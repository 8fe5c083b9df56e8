/** What upstreams mean by the status of a failure, where they all mean the same: told as our client should act on it. */
import { type ErrorCode, HubError } from "../../sdk/protocol/errors.ts";
import { isFiltered, isTooLong, outOfQuota } from "./upstream-words.ts";

export type ToldFailure = {
  status: number;
  /** The status that says what the upstream means, where its own does not. */
  means?: number | undefined;
  /** The upstream's name. */
  upstream: string;
  /** Its own words, safe for a client; absent where it had none. */
  words: string | undefined;
  param?: string | undefined;
  retryAfterMs: number | undefined;
  /** What another 4xx is, where the upstream has a code for it; the client has to mend it. */
  clientCode?: ErrorCode | undefined;
};

/**
 * 401 and 403 are our credentials' fault, 402 our account's, 404 our name for the model; 408, 429 and 503 are to be met
 * by asking elsewhere, or again. Other 4xx are the client's to mend and pass on; all else is 502. A prompt that is too
 * long and what a filter stops are told apart, because another model may take them.
 */
export function readStatus(told: ToldFailure): HubError {
  const { status, upstream, words, param, retryAfterMs } = told;
  /** In its own words to the client; logs and records keep the status alone. */
  const quoting = (code: ErrorCode, what: string): HubError => {
    const unquoted = `${what} with status ${status}.`;
    const message = words === undefined ? unquoted : `${what}: ${words}`;
    return new HubError(code, message, { param, retryAfterMs, unquoted });
  };
  switch (told.means ?? status) {
    case 401:
    case 403:
      return refusedCredentials(upstream, status);
    case 402:
      return outOfQuota(`The upstream '${upstream}' has no quota left.`);
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
    case 529:
      return quoting("upstream_unavailable", `The upstream '${upstream}' is overloaded`);
    default:
      if (!isClientsToMend(told.means ?? status)) {
        return quoting("upstream_error", `The upstream '${upstream}' failed`);
      }
  }
  const clientCode = clientCodeOf(told);
  const refusal = quoting(clientCode, "The upstream refused the request");
  if (words === undefined) return refusal;
  return new HubError(clientCode, words, { param, retryAfterMs, unquoted: refusal.unquoted });
}

/** Its message may name our credential, so it stays in the log's status alone. */
export function refusedCredentials(upstream: string, status: number): HubError {
  return new HubError(
    "upstream_auth_failed",
    `The upstream '${upstream}' refused this gateway's credentials (${status}). Its operator has to renew them, or to be given the model.`,
  );
}

function isClientsToMend(status: number): boolean {
  return status >= 400 && status < 500;
}

/** Hosts of many models pass on what each of those says in its own words. */
function clientCodeOf({ status, words = "", clientCode }: ToldFailure): ErrorCode {
  if (isTooLong(words)) return "context_length_exceeded";
  if (isFiltered(words)) return "content_filter";
  return clientCode ?? (status === 413 ? "request_too_large" : "invalid_value");
}
