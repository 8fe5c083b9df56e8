/** Our errors as AWS's exceptions. */
import type { HubError } from "../../../sdk/protocol/errors.ts";
import { writeFrame } from "../../providers/bedrock/frames.ts";

/** SDKs look for the type in the body where no header tells it. */
export function toConverseError(error: HubError): { __type: string; message: string } {
  return { __type: typeOf(error), message: error.message };
}

/** The last frame of a stream that broke. */
export function toExceptionFrame(error: HubError): Uint8Array {
  const type = typeOf(error);
  const known = inStreams.has(type) ? type : "ModelStreamErrorException";
  const name = known.charAt(0).toLowerCase() + known.slice(1);
  return writeFrame("exception", name, { message: error.message });
}

function typeOf({ code, status }: HubError): string {
  if (code === "insufficient_quota") return "ServiceQuotaExceededException";
  return types[status] ?? (status >= 500 ? "InternalServerException" : "ValidationException");
}

const types: Readonly<Record<number, string>> = {
  401: "AccessDeniedException",
  403: "AccessDeniedException",
  404: "ResourceNotFoundException",
  408: "ModelTimeoutException",
  429: "ThrottlingException",
  502: "ModelErrorException",
  503: "ServiceUnavailableException",
  504: "ModelTimeoutException",
};
const inStreams: ReadonlySet<string> = new Set([
  "InternalServerException",
  "ValidationException",
  "ThrottlingException",
  "ServiceUnavailableException",
]);
