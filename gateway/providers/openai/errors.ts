/** An OpenAI-compatible upstream's failure, told as our client should act on it. */
import { type ErrorCode, HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { readStatus } from "../upstream-status.ts";
import { readRetryAfter, safeWords } from "../upstream-words.ts";
import { bareError, openAiError } from "./schema.ts";

export type UpstreamErrorBody = {
  message: string;
  code: string | undefined;
  param: string | undefined;
};

/** The `error` of a parsed body, `undefined` when there is none. */
export function readOpenAiErrorBody(json: unknown): UpstreamErrorBody | undefined {
  const parsed = openAiError.safeParse(json);
  if (!parsed.success) return readBareError(json);
  const { error } = parsed.data;
  if (typeof error === "string")
    return { message: safeWords(error), code: undefined, param: undefined };
  return {
    message: safeWords(error.message ?? "no message"),
    code: error.code == null ? undefined : String(error.code),
    param: error.param ?? undefined,
  };
}

/** Mistral's, without an envelope, and FastAPI's. */
function readBareError(json: unknown): UpstreamErrorBody | undefined {
  const parsed = bareError.safeParse(json);
  if (!parsed.success) return undefined;
  const { data } = parsed;
  if ("object" in data) {
    return { message: safeWords(data.message), code: data.code ?? undefined, param: undefined };
  }
  const [first] = data.detail;
  return { message: safeWords(first?.msg ?? "no message"), code: undefined, param: undefined };
}

/** An error that stands in a stream, or in an answer with status 200; `undefined` for anything else. */
export function readErrorFrame(json: unknown): HubError | undefined {
  if (typeof json === "object" && json !== null && "choices" in json && !("error" in json)) return;
  const told = readOpenAiErrorBody(json);
  if (!told) return undefined;
  const code = filterCodes.has(told.code ?? "") ? "content_filter" : "upstream_error";
  return new HubError(code, `The upstream broke off the answer: ${told.message}`, {
    unquoted: "The upstream broke off the answer with an error.",
  });
}

/**
 * 429 may say that our own account there is empty, as 402 does.
 * @param upstream the upstream's name
 */
export function readOpenAiError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const { status } = response;
  const told = readOpenAiErrorBody(parseJson(body));
  const isEmpty = status === 429 && quotaCodes.has(told?.code ?? "");
  return readStatus({
    status,
    means: isEmpty ? 402 : undefined,
    upstream,
    words: told?.message,
    param: told?.param,
    retryAfterMs: readRetryAfter(response),
    clientCode: clientCode(told?.code),
  });
}

function clientCode(told = ""): ErrorCode | undefined {
  if (filterCodes.has(told)) return "content_filter";
  return passedCodes.find((code) => code === told);
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

const passedCodes = [
  "context_length_exceeded",
  "missing_required_parameter",
  "invalid_type",
  "invalid_value",
  "number_out_of_range",
  "unsupported_parameter",
  "unsupported_model",
] as const satisfies readonly ErrorCode[];

/** OpenAI's, its pictures', and Azure's. */
const filterCodes: ReadonlySet<string> = new Set([
  "content_filter",
  "content_policy_violation",
  "moderation_blocked",
  "ResponsibleAIPolicyViolation",
]);

const quotaCodes: ReadonlySet<string> = new Set([
  "insufficient_quota",
  "billing_hard_limit_reached",
  "credit_balance_exhausted",
  "organization_spend_limit_exceeded",
  "project_spend_limit_exceeded",
  "organization_usage_limit_exceeded",
]);
