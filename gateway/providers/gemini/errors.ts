/** Gemini's failures, told as our client should act on them. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { readStatus, refusedCredentials } from "../upstream-status.ts";
import { safeWords } from "../upstream-words.ts";
import { geminiError } from "./schema.ts";

export type GeminiErrorBody = {
  code: number | undefined;
  message: string;
  /** Google's name for the kind of failure, such as `RESOURCE_EXHAUSTED`. */
  status: string | undefined;
  retryAfterMs: number | undefined;
  /** The request field at fault. */
  param: string | undefined;
  /** Such as `API_KEY_INVALID`. */
  reason: string | undefined;
};

/** The `error` of a parsed body, or of an array's first element; `undefined` when there is none. */
export function readGeminiErrorBody(json: unknown): GeminiErrorBody | undefined {
  const parsed = geminiError.safeParse(json);
  if (!parsed.success) return undefined;
  const { code, message, status, details } = parsed.data.error;
  const detail = (type: string) => details?.find((it) => it["@type"] === typePrefix + type);
  const violations = detail("BadRequest")?.fieldViolations;
  const [violation] = Array.isArray(violations) ? (violations as { field?: unknown }[]) : [];
  const reason = detail("ErrorInfo")?.reason;
  return {
    code: code ?? undefined,
    message: safeWords(message ?? "no message"),
    status: status ?? undefined,
    retryAfterMs: readDelay(detail("RetryInfo")?.retryDelay),
    param: typeof violation?.field === "string" ? violation.field.slice(0, 200) : undefined,
    reason: typeof reason === "string" ? reason : undefined,
  };
}

/** An error that stands in a stream, or in an answer with status 200; `undefined` for anything else. */
export function readGeminiErrorFrame(json: unknown): HubError | undefined {
  const told = readGeminiErrorBody(json);
  if (!told) return undefined;
  const options = {
    retryAfterMs: told.retryAfterMs,
    unquoted: "The upstream broke off the answer with an error.",
  };
  const message = `The upstream broke off the answer: ${told.message}`;
  const code = told.status === "RESOURCE_EXHAUSTED" ? "rate_limit_exceeded" : "upstream_error";
  return new HubError(code, message, options);
}

/**
 * A key that is not valid is told with status 400, and a billing account that is missing too: both are ours to mend.
 * @param upstream the upstream's name
 */
export function readGeminiError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const { status } = response;
  const told = readGeminiErrorBody(parseJson(body));
  if (isAboutOurKey(told)) return refusedCredentials(upstream, status);
  return readStatus({
    status,
    upstream,
    words: told?.message,
    param: told?.param,
    retryAfterMs: told?.retryAfterMs ?? readDelay(response.header("retry-after")),
    // The account's region or plan does not have it: another model of the route may.
    clientCode: told?.status === "FAILED_PRECONDITION" ? "unsupported_model" : undefined,
  });
}

function isAboutOurKey(told: GeminiErrorBody | undefined): boolean {
  if (!told) return false;
  return (
    told.reason === "API_KEY_INVALID" ||
    told.reason === "BILLING_DISABLED" ||
    told.status === "UNAUTHENTICATED" ||
    told.status === "PERMISSION_DENIED" ||
    /^API key (not valid|expired)/.test(told.message)
  );
}

/** `17s`, `0.5s` or a header's plain seconds, in milliseconds; at most a minute. */
function readDelay(delay: unknown): number | undefined {
  const seconds = typeof delay === "string" ? Number(delay.replace(/s$/, "")) : Number.NaN;
  return seconds > 0 ? Math.min(seconds * 1000, retryAfterMsMax) : undefined;
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

const typePrefix = "type.googleapis.com/google.rpc.";
/** The official SDKs ignore anything longer and then retry at once. */
const retryAfterMsMax = 60_000;
