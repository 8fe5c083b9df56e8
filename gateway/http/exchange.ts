/** One request and its answer: an id, a start, and the headers that every answer carries. */
import { newId, type RequestId } from "../../sdk/protocol/ids.ts";
import { Timings } from "../observing/timings.ts";
import type { Trace } from "../observing/trace.ts";

export type Exchange = {
  requestId: RequestId;
  startedAtMs: number;
  /** Absent for what is no single request, such as a realtime session's responses. */
  timings?: Timings;
  /** Of a request to a model. */
  trace?: Trace;
};

export function openExchange(now: () => number): Exchange {
  const startedAtMs = now();
  return { requestId: newId("req", startedAtMs), startedAtMs, timings: new Timings() };
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
  "x-switchyard-decision",
  "x-switchyard-tried",
  "x-switchyard-replay-of",
  "x-switchyard-cache",
  "age",
  "idempotent-replayed",
].join(", ");
