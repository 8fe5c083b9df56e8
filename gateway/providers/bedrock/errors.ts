/** Bedrock's failures, told as our client should act on them. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { readStatus } from "../upstream-status.ts";
import { readRetryAfter, safeWords } from "../upstream-words.ts";
import type { Frame } from "./frames.ts";
import { bedrockError } from "./schema.ts";

/** An exception in a stream, which means what it means before one. */
export function readExceptionFrame({ name, payload }: Frame): HubError {
  const { words = "no message" } = readBody(payload);
  const type = name.charAt(0).toUpperCase() + name.slice(1);
  const status = meaningOf(type, words) ?? 500;
  const { code } = readStatus({ status, upstream: "", words, retryAfterMs: undefined });
  return new HubError(code, `The upstream broke off the answer (${name}): ${words}`, {
    unquoted: "The upstream broke off the answer with an error.",
  });
}

/** @param upstream the upstream's name */
export function readBedrockError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const told = readBody(body);
  // The header may go on with an address: "ThrottlingException:http://…".
  const type = response.header("x-amzn-errortype")?.split(":")[0] ?? told.type;
  return readStatus({
    status: response.status,
    means: meaningOf(type, told.words),
    upstream,
    words: told.words,
    retryAfterMs: readRetryAfter(response),
  });
}

/** The status that says what an exception says, whichever AWS sends with it; in a stream it sends none. */
function meaningOf(type = "", words = ""): number | undefined {
  if (type === "ValidationException" && noSuchModel.test(words)) return 404;
  if (type === "AccessDeniedException" && /INVALID_PAYMENT_INSTRUMENT/.test(words)) return 402;
  return meanings.get(type);
}

function readBody(body: Uint8Array): { words: string | undefined; type: string | undefined } {
  const parsed = bedrockError.safeParse(parseJson(body)).data;
  const words = parsed?.message ?? parsed?.Message;
  return {
    words: words == null ? undefined : safeWords(words),
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

/** What is no model of the region, and what is one that answers under a profile's name alone. */
const noSuchModel = /model identifier is invalid|on-demand throughput isn.t supported/i;

/**
 * What AWS tells with 400 though it is about our credentials or our account's quota, a model that failed (424) or is not ready
 * (429), and what streams tell by name alone.
 * @see https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html, read 2026-11-22
 */
const meanings: ReadonlyMap<string, number> = new Map([
  ["AccessDeniedException", 403],
  ["ExpiredTokenException", 401],
  ["IncompleteSignature", 401],
  ["IncompleteSignatureException", 401],
  ["NotAuthorized", 401],
  ["RequestExpired", 401],
  ["UnrecognizedClientException", 401],
  ["ServiceQuotaExceededException", 429],
  ["ThrottlingException", 429],
  ["ModelErrorException", 500],
  ["ModelStreamErrorException", 500],
  ["ModelTimeoutException", 408],
  ["ModelNotReadyException", 503],
  ["ServiceUnavailableException", 503],
  ["ValidationException", 400],
]);
