/** One request and its answer: an id, a start, and the headers that every answer carries. */
import { newId, type RequestId } from "../../sdk/protocol/ids.ts";

export type Exchange = {
  requestId: RequestId;
  startedAtMs: number;
};

export function openExchange(now: () => number): Exchange {
  const startedAtMs = now();
  return { requestId: newId("req", startedAtMs), startedAtMs };
}

/** Headers of OpenAI that clients read, and what lets a page of another origin read them. */
export function baseHeaders(exchange: Exchange, nowMs: number): Record<string, string> {
  return {
    "x-request-id": exchange.requestId,
    "openai-version": "2020-10-01",
    "openai-processing-ms": String(Math.max(0, nowMs - exchange.startedAtMs)),
    "access-control-allow-origin": "*",
    "access-control-expose-headers": exposedHeaders,
  };
}

const exposedHeaders = [
  "x-request-id",
  "openai-processing-ms",
  "openai-version",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
  ...["limit", "remaining", "reset"].flatMap((what) => [
    `x-ratelimit-${what}-requests`,
    `x-ratelimit-${what}-tokens`,
  ]),
  "x-switchyard-model",
  "x-switchyard-adapter",
  "x-switchyard-task",
  "x-switchyard-route",
  "x-switchyard-attempts",
  "x-switchyard-cost-usd",
  "x-switchyard-dropped",
].join(", ");
