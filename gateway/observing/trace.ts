/** One request's place in a distributed trace, and its calls of upstreams, by W3C Trace Context. */
import { randomFillSync } from "node:crypto";

/** Whether a request that belongs to no trace yet, or to one, is told to the collector. */
export type Sampler = (traceId: string, parentSampled: boolean | undefined) => boolean;

/** A call of an upstream. Times are milliseconds since 1970. */
export type CallSpan = {
  spanId: string;
  /** The provider's protocol. */
  format: string;
  upstream: string;
  deployment: string;
  model: string;
  startedAtMs: number;
  /** Absent while its answer streams. */
  endedAtMs?: number;
  error?: string;
};

/** @see https://www.w3.org/TR/trace-context/ */
export class Trace {
  readonly traceId: string;
  readonly spanId = newSpanId();
  readonly parentSpanId: string | undefined;
  /** Whether it is told to a collector. */
  readonly sampled: boolean;
  readonly path: string;
  readonly calls: CallSpan[] = [];
  readonly #came: string | undefined;
  readonly #state: string | undefined;

  /** @param sampler absent where nothing is told to a collector; then what came is passed on as it came */
  constructor(request: Request, sampler: Sampler | undefined) {
    const { headers } = request;
    const came = headers.get("traceparent") ?? undefined;
    const [, traceId, parentSpanId, flags] = (came && traceparent.exec(came)) || [];
    const isGood =
      traceId !== undefined && !/^0+$/.test(traceId) && !/^0+$/.test(parentSpanId ?? "");
    this.traceId = isGood ? traceId : newTraceId();
    this.parentSpanId = isGood ? parentSpanId : undefined;
    const parentSampled = isGood ? (Number.parseInt(flags ?? "0", 16) & 1) === 1 : undefined;
    this.sampled = sampler?.(this.traceId, parentSampled) ?? false;
    const state = isGood ? headers.get("tracestate") : null;
    this.#state = state !== null && state.length <= stateCharsMax ? state : undefined;
    this.#came = isGood && !sampler ? came : undefined;
    this.path = sampler ? new URL(request.url).pathname.slice(0, 200) : "";
  }

  /** @returns the headers that go to the upstream */
  began(call: Omit<CallSpan, "spanId">): { span: CallSpan; headers: Record<string, string> } {
    const span = { spanId: newSpanId(), ...call };
    if (this.sampled) this.calls.push(span);
    const own = `00-${this.traceId}-${span.spanId}-${this.sampled ? "01" : "00"}`;
    const headers: Record<string, string> = { traceparent: this.#came ?? own };
    if (this.#state !== undefined) headers.tracestate = this.#state;
    return { span, headers };
  }
}

function newTraceId(): string {
  return randomHex(16);
}

function newSpanId(): string {
  return randomHex(8);
}

function randomHex(length: number): string {
  if (pageUsed + length > page.length) {
    randomFillSync(page);
    pageUsed = 0;
  }
  pageUsed += length;
  return page.toString("hex", pageUsed - length, pageUsed);
}

/** Random bytes are drawn by the page: one call for each id would cost more than the rest of it. */
const page = Buffer.alloc(4096);
let pageUsed = page.length;

const traceparent = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:$|-)/;
/** What a receiver has to take of a `tracestate` at the least; a longer one may be left out whole. */
const stateCharsMax = 512;
