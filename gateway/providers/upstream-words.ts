/** What upstreams say about their failures, made fit for a client. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { TransportResponse } from "./transport.ts";

/** Our account there is empty: the upstream is well, and another key of it may do. */
export function outOfQuota(message: string): HubError {
  return new OutOfQuota("upstream_unavailable", message);
}

export function isOutOfQuota(error: HubError): boolean {
  return error instanceof OutOfQuota;
}

class OutOfQuota extends HubError {}

/** A provider's words go to the client without anything that looks like a credential. */
export function safeWords(message: string): string {
  return message.slice(0, wordsCharsMax).replace(/\b(sk|pk|rk|Bearer)[-_ ][\w*.-]{6,}/g, "[key]");
}

/** Milliseconds from `retry-after-ms`, or `retry-after` in seconds or as a date by the upstream's own clock; at most a minute. */
export function readRetryAfter(response: Pick<TransportResponse, "header">): number | undefined {
  const ms = Number(response.header("retry-after-ms") ?? Number.NaN);
  if (ms > 0) return Math.min(ms, retryAfterMsMax);
  const text = response.header("retry-after");
  if (text === undefined) return undefined;
  const seconds = Number(text);
  const wait = Number.isNaN(seconds)
    ? Date.parse(text) - Date.parse(response.header("date") ?? "")
    : seconds * 1000;
  return wait > 0 ? Math.min(wait, retryAfterMsMax) : undefined;
}

const wordsCharsMax = 2000;
/** The official SDKs ignore anything longer and then retry at once. */
const retryAfterMsMax = 60_000;
