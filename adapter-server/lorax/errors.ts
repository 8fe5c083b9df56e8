/** Errors as LoRAX's clients know them: a message and one of four types. */
import { asHubError, type HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";

/** The routes whose errors are told so. */
export const loraxPaths: ReadonlySet<string> = new Set(["/", "/generate", "/generate_stream"]);

export function toLoraxErrorBody(error: unknown): { error: string; error_type: string } {
  const hubError = asHubError(error);
  return { error: hubError.message, error_type: typeOf(hubError) };
}

/** What is wrong with a request is 422 here, and a full server 429; all else has our status and headers. */
export function toLoraxError(error: unknown): Response {
  const { headers, status } = toErrorResponse(error);
  const type = typeOf(asHubError(error));
  const known = type === "validation" ? 422 : type === "overloaded" ? 429 : status;
  return new Response(JSON.stringify(toLoraxErrorBody(error)), { status: known, headers });
}

function typeOf({ code, status }: HubError): string {
  if (code === "server_is_overloaded" || status === 429) return "overloaded";
  if (status === 400 || status === 413) return "validation";
  return status < 500 ? code : "generation";
}
