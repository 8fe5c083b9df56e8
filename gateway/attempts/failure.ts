/** What a failed attempt means: for the next attempt, for the upstream's health, for the client. */
import { type ErrorCode, HubError } from "../../sdk/protocol/errors.ts";
import { isOutOfQuota } from "../providers/upstream-words.ts";

/** Whether another model may do better where this one failed. */
export function mayFallBack(error: HubError): boolean {
  return fallbackCodes.has(error.code);
}

/**
 * Where the same model may be asked once more: `same` for what may pass by itself, `elsewhere` for what another address
 * or key may do better.
 * @param answered whether an answer had begun: its work is done and paid for, so the same place is not asked again
 */
export function whereToRetry(error: HubError, answered: boolean): "same" | "elsewhere" | "nowhere" {
  if (!retryCodes.has(error.code)) return elsewhereCodes.has(error.code) ? "elsewhere" : "nowhere";
  return answered || isOutOfQuota(error) ? "elsewhere" : "same";
}

/** Whether the upstream declined before it worked; whatever else fails may have been worked on. */
export function isCleanRefusal(error: HubError): boolean {
  return !["upstream_error", "upstream_timeout", "adapter_not_applied"].includes(error.code);
}

/** Whether the failure says that the upstream is ill; a 429 or a bad request says that it is well. */
export function isUpstreamFault(error: HubError): boolean {
  return faultCodes.has(error.code);
}

/**
 * Whether the connection broke before any answer: usually one that was kept open and that the upstream
 * had closed meanwhile, so one try on a new connection is due.
 */
export function isConnectionReset(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (resetCodes.has((error as NodeJS.ErrnoException).code ?? "")) return true;
  }
  return false;
}

/** Anything a transport throws, as the client may see it. */
export function toUpstreamError(thrown: unknown, upstream: string): HubError {
  if (thrown instanceof HubError) return thrown;
  const code = (thrown as NodeJS.ErrnoException | undefined)?.code;
  if (code === "UND_ERR_CONNECT_TIMEOUT") {
    return new HubError(
      "upstream_timeout",
      `The upstream '${upstream}' could not be connected to in time.`,
      { cause: thrown },
    );
  }
  return new HubError(
    "upstream_error",
    `The connection to the upstream '${upstream}' failed${code === undefined ? "" : ` (${code})`}.`,
    { cause: thrown },
  );
}

const fallbackCodes: ReadonlySet<ErrorCode> = new Set([
  "upstream_error",
  // One model's wrong name says nothing about the upstream's others, so it is no fault below.
  "upstream_model_not_found",
  "upstream_auth_failed",
  "upstream_timeout",
  "upstream_unavailable",
  "server_is_overloaded",
  "shutting_down",
  "internal_error",
  "rate_limit_exceeded",
  "adapter_not_applied",
  // Another model may have more room, or know the parameter.
  "context_length_exceeded",
  "unsupported_parameter",
  "unsupported_model",
]);

const retryCodes: ReadonlySet<ErrorCode> = new Set([
  "upstream_error",
  "upstream_unavailable",
  "server_is_overloaded",
  "shutting_down",
  "rate_limit_exceeded",
]);

/** A place that was too slow once has cost enough; names and credentials do not mend themselves. */
const elsewhereCodes: ReadonlySet<ErrorCode> = new Set([
  "upstream_timeout",
  "upstream_auth_failed",
  "upstream_model_not_found",
]);

const faultCodes: ReadonlySet<ErrorCode> = new Set([
  "upstream_error",
  "upstream_auth_failed",
  "upstream_timeout",
  "upstream_unavailable",
]);

const resetCodes: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"]);
