/** Errors as Anthropic's clients know them: its types, its statuses, its envelope. */
import { errorTable, type HubError } from "../../../sdk/protocol/errors.ts";

/** The types of Anthropic's API. @see https://docs.anthropic.com/en/api/errors */
export type AnthropicErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "billing_error"
  | "permission_error"
  | "not_found_error"
  | "request_too_large"
  | "rate_limit_error"
  | "api_error"
  | "timeout_error"
  | "overloaded_error";

export function anthropicStatus(error: HubError): number {
  if (error.code === "insufficient_quota") return 402;
  const { status } = errorTable[error.code];
  switch (status) {
    case 502:
      return 500;
    case 503:
      return 529;
    default:
      return status;
  }
}

/** `details.error_code` is where the SDKs look for a stable code; it is ours. */
export function anthropicError(error: HubError, requestId?: string): unknown {
  const { param, details, message } = error;
  return {
    type: "error",
    error: {
      type: toType(anthropicStatus(error)),
      message,
      details: { ...details, error_code: error.code, ...(param !== undefined && { param }) },
    },
    ...(requestId !== undefined && { request_id: requestId }),
  };
}

function toType(status: number): AnthropicErrorType {
  const type = types[status];
  if (type) return type;
  return status < 500 ? "invalid_request_error" : "api_error";
}

const types: Readonly<Record<number, AnthropicErrorType>> = {
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  504: "timeout_error",
  529: "overloaded_error",
};
