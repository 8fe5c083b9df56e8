/** Anthropic's failures, told as our client should act on them. */
import { type ErrorCode, HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { readStatus } from "../upstream-status.ts";
import { readRetryAfter, safeWords } from "../upstream-words.ts";
import { type AnthropicErrorBody, anthropicErrorBody } from "./schema.ts";

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
  return readStatus({
    status,
    means: isEmpty(status, told) ? 402 : undefined,
    upstream,
    words,
    retryAfterMs: readRetryAfter(response) ?? readReset(response),
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

/**
 * Accounts without credit were told so with 400 before there was 402; so are those at the limit that they set themselves,
 * and those at their tier's with 429.
 * @see https://platform.claude.com/docs/en/api/errors, read 2026-11-22
 */
function isEmpty(status: number, told: AnthropicErrorBody["error"] | undefined): boolean {
  if (status === 429) return told?.details?.error_code === "enforced_spend_limit_reached";
  return status === 400 && emptyWords.test(told?.message ?? "");
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

const emptyWords =
  /credit balance is too low|^You have reached your specified (?:workspace )?API usage limits/i;
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
