/** Anthropic's failures, told as our client should act on them. */
import { type ErrorCode, HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { readStatus } from "../upstream-status.ts";
import { readRetryAfter, safeWords } from "../upstream-words.ts";
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

/** @param upstream the upstream's name */
export function readAnthropicError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const { status } = response;
  const told = anthropicErrorBody.safeParse(parseJson(body)).data?.error;
  const words = told && safeWords(told.message ?? "no message");
  // Accounts without credit were told so with 400 before there was 402.
  const isEmpty = status === 400 && /credit balance is too low/i.test(words ?? "");
  return readStatus({
    status: isEmpty ? 402 : status,
    upstream,
    words,
    retryAfterMs: readRetryAfter(response) ?? readReset(response),
    clientCode: clientCode(status, words),
  });
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
