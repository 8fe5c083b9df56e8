/** Anthropic's failures, told as our client should act on them. */
import { type ErrorCode, HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { outOfQuota, readRetryAfter, safeWords } from "../upstream-words.ts";
import { anthropicErrorBody } from "./schema.ts";

/** An error in the middle of a stream, or in an answer with status 200; `undefined` for anything else. */
export function readErrorEvent(json: unknown): HubError | undefined {
  const parsed = anthropicErrorBody.safeParse(json).data?.error;
  if (!parsed) return undefined;
  const words = safeWords(parsed.message ?? "no message");
  return new HubError(
    codesInStreams.get(parsed.type ?? "") ?? "upstream_error",
    `The upstream broke off the answer: ${words}`,
    {
      unquoted: `The upstream broke off the answer with an error${parsed.type == null ? "" : ` (${parsed.type.slice(0, 40)})`}.`,
    },
  );
}

/**
 * 4xx are the client's to mend and pass on; 401 and 403 are our credentials' fault, 402 our account's, 404 our name
 * for the model; 529 is an overloaded service, other 5xx become 502.
 * @param upstream the upstream's name
 */
export function readAnthropicError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const { status } = response;
  const told = anthropicErrorBody.safeParse(parseJson(body)).data?.error;
  const words = told && safeWords(told.message ?? "no message");
  const retryAfterMs = readRetryAfter(response) ?? readReset(response);
  /** In its own words to the client; logs and records keep the status alone. */
  const quoting = (code: ErrorCode, what: string): HubError => {
    const unquoted = `${what} with status ${status}.`;
    return new HubError(code, words === undefined ? unquoted : `${what}: ${words}`, {
      retryAfterMs,
      unquoted,
    });
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
      return noCredit(upstream);
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
      if (status < 400 || status >= 500) {
        return quoting("upstream_error", `The upstream '${upstream}' failed`);
      }
  }
  // Accounts without credit were told so with 400 before there was 402.
  if (/credit balance is too low/i.test(words ?? "")) return noCredit(upstream);
  const refusal = quoting(clientCode(status, words), "The upstream refused the request");
  if (words === undefined) return refusal;
  return new HubError(refusal.code, words, { retryAfterMs, unquoted: refusal.unquoted });
}

/** When the limit that was reached is there again, by the upstream's own clock. */
function readReset(response: Pick<TransportResponse, "header">): number | undefined {
  const resets = limitKinds.flatMap((kind) => {
    const prefix = `anthropic-ratelimit-${kind}`;
    if (response.header(`${prefix}-remaining`) !== "0") return [];
    const ms =
      Date.parse(response.header(`${prefix}-reset`) ?? "") -
      Date.parse(response.header("date") ?? "");
    return ms > 0 ? [Math.min(ms, resetMsMax)] : [];
  });
  return resets.length > 0 ? Math.max(...resets) : undefined;
}

function noCredit(upstream: string): HubError {
  return outOfQuota(`The upstream '${upstream}' has no credit left.`);
}

function clientCode(status: number, words = ""): ErrorCode {
  if (status === 413) return "request_too_large";
  if (/prompt is too long|exceeds? (?:the )?context|input length and .max_tokens/i.test(words)) {
    return "context_length_exceeded";
  }
  return "invalid_value";
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

const limitKinds = ["requests", "tokens", "input-tokens", "output-tokens"];
/** Clients ignore longer waits and try again at once. */
const resetMsMax = 60_000;
const codesInStreams = new Map<string, ErrorCode>(
  Object.entries({
    overloaded_error: "upstream_unavailable",
    rate_limit_error: "rate_limit_exceeded",
    timeout_error: "upstream_timeout",
  }),
);
