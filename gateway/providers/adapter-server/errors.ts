/** What an adapter-server's refusal means to the gateway. */
import { type ErrorCode, HubError } from "../../../sdk/protocol/errors.ts";
import { readOpenAiError, readOpenAiErrorBody } from "../openai/errors.ts";
import { parseJson } from "../openai/response.ts";

/**
 * As OpenAI's are read. A 429 is for the project alone whose requests fill its part of the queue: others are served
 * there, so nobody else is kept from it. A server that says it is full, or about to stop, is well: it is asked less for
 * a while, and not taken for one that fails.
 */
export function readAdapterServerError(...read: Parameters<typeof readOpenAiError>): HubError {
  const error = readOpenAiError(...read);
  const { code, message, param, retryAfterMs, unquoted } = error;
  const options = { param, retryAfterMs, unquoted };
  if (code === "rate_limit_exceeded") {
    return new HubError(code, message, { ...options, details: { scope: "project" } });
  }
  if (code !== "upstream_unavailable") return error;
  const said = readOpenAiErrorBody(parseJson(read[1]))?.code;
  const full = fullCodes.find((it) => it === said);
  return full ? new HubError(full, message, options) : error;
}

const fullCodes = ["server_is_overloaded", "shutting_down"] as const satisfies readonly ErrorCode[];
