/** Bedrock's failures, told as our client should act on them. */
import { type ErrorCode, HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import type { Frame } from "./frames.ts";
import { bedrockError } from "./schema.ts";

/** An exception in a stream. */
export function readExceptionFrame({ name, payload }: Frame): HubError {
  const { message } = readBody(payload);
  const code = frameCodes[name.toLowerCase()] ?? "upstream_error";
  return new HubError(code, `The upstream broke off the answer (${name}): ${message}`, {
    unquoted: "The upstream broke off the answer with an error.",
  });
}

/** @param upstream the upstream's name */
export function readBedrockError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const { status } = response;
  const told = readBody(body);
  // The header may go on with an address: "ThrottlingException:http://…".
  const type = response.header("x-amzn-errortype")?.split(":")[0] ?? told.type;
  const seconds = Number(response.header("retry-after") ?? Number.NaN);
  const options = {
    retryAfterMs: seconds > 0 ? Math.min(seconds * 1000, retryAfterMsMax) : undefined,
  };
  const quoting = (code: ErrorCode, what: string): HubError =>
    new HubError(code, `${what}: ${told.message}`, {
      ...options,
      unquoted: `${what} with status ${status}.`,
    });
  if (status === 401 || status === 403) {
    return new HubError(
      "upstream_auth_failed",
      `The upstream '${upstream}' refused this gateway's credentials (${status}). Its operator has to renew them, or to be given the model.`,
    );
  }
  if (status === 404 || /model identifier is invalid/i.test(told.message)) {
    return quoting(
      "upstream_model_not_found",
      `The upstream '${upstream}' does not know the model`,
    );
  }
  if (
    status === 429 ||
    type === "ThrottlingException" ||
    type === "ServiceQuotaExceededException"
  ) {
    return quoting("rate_limit_exceeded", `The upstream '${upstream}' is rate limited`);
  }
  if (status === 408 || status === 504 || type === "ModelTimeoutException") {
    return quoting("upstream_timeout", `The upstream '${upstream}' timed out`);
  }
  if (status === 503) {
    return quoting("upstream_unavailable", `The upstream '${upstream}' is overloaded`);
  }
  // 424 is the model's own failure, and no fault of the request.
  if (status >= 400 && status < 500 && status !== 424) {
    const code = clientCode(status, told.message);
    return new HubError(code, told.message, {
      ...options,
      unquoted: `The upstream refused the request with status ${status}.`,
    });
  }
  return quoting("upstream_error", `The upstream '${upstream}' failed`);
}

function clientCode(status: number, message: string): ErrorCode {
  if (status === 413) return "request_too_large";
  return /too long|too many input tokens|maximum (context|tokens)|exceeds? the (context|maximum)/i.test(
    message,
  )
    ? "context_length_exceeded"
    : "invalid_value";
}

/** Its words go to the client without anything that looks like a credential. */
function readBody(body: Uint8Array): { message: string; type: string | undefined } {
  const parsed = bedrockError.safeParse(parseJson(body)).data;
  const message = parsed?.message ?? parsed?.Message ?? "no message";
  return {
    message: message.slice(0, 2000).replace(/\b(?:AKIA|ASIA|ABSK)[\w+/=-]{6,}/g, "[key]"),
    type: parsed?.__type?.split("#").at(-1),
  };
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

const frameCodes: Readonly<Record<string, ErrorCode>> = {
  throttlingexception: "rate_limit_exceeded",
  serviceunavailableexception: "upstream_unavailable",
  validationexception: "invalid_value",
};
/** The official SDKs ignore anything longer and then retry at once. */
const retryAfterMsMax = 60_000;
