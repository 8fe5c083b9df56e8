/** Our errors in Google's envelope, `google.rpc.Status` with its usual details. */
import type { HubError } from "../../../sdk/protocol/errors.ts";

/** @see https://cloud.google.com/apis/design/errors */
export function toGeminiError(error: HubError, requestId: string): unknown {
  const { status: code, message, param, retryAfterMs } = error;
  const metadata = {
    ...(requestId && { requestId }),
    ...(param !== undefined && { field: param }),
  };
  const reason = error.code.toUpperCase();
  const details: Record<string, unknown>[] = [
    { "@type": `${types}ErrorInfo`, reason, domain: "switchyard", metadata },
  ];
  if (param !== undefined && code === 400) {
    const fieldViolations = [{ field: param, description: message }];
    details.push({ "@type": `${types}BadRequest`, fieldViolations });
  }
  if (retryAfterMs !== undefined) {
    const retryDelay = `${Math.ceil(retryAfterMs) / 1000}s`;
    details.push({ "@type": `${types}RetryInfo`, retryDelay });
  }
  return { error: { code, message, status: statusName(code), details } };
}

function statusName(code: number): string {
  return names[code] ?? (code >= 500 ? "INTERNAL" : "INVALID_ARGUMENT");
}

const types = "type.googleapis.com/google.rpc.";
const names: Readonly<Record<number, string>> = {
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  405: "UNIMPLEMENTED",
  409: "ABORTED",
  429: "RESOURCE_EXHAUSTED",
  499: "CANCELLED",
  502: "UNAVAILABLE",
  503: "UNAVAILABLE",
  504: "DEADLINE_EXCEEDED",
};
