/** Cohere's failures, told as our client should act on them. */
import type { HubError } from "../../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../transport.ts";
import { readStatus } from "../upstream-status.ts";
import { readRetryAfter, safeWords } from "../upstream-words.ts";
import { parseJson } from "./response.ts";
import { cohereError } from "./schema.ts";

/**
 * 498 is a token on Cohere's own list of what may not be said, and so the client's to mend; 499 is that we left.
 * @param upstream the upstream's name
 * @see https://docs.cohere.com/reference/errors
 */
export function readCohereError(
  response: Pick<TransportResponse, "status" | "header">,
  body: Uint8Array,
  upstream: string,
): HubError {
  const { status } = response;
  const told = cohereError.safeParse(parseJson(body)).data?.message;
  const words = told === undefined ? undefined : safeWords(told);
  return readStatus({ status, upstream, words, retryAfterMs: readRetryAfter(response) });
}
