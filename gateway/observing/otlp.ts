/** Traces and metrics of settled requests, sent to a collector by OTLP over HTTP in JSON, with `gen_ai.*` names. */
import type { Logger } from "pino";
import { inputMeters, outputMeters, type UsageVector } from "../../sdk/protocol/usage.ts";
import { GenAiMetrics } from "./gen-ai-metrics.ts";
import { attributesOf, sumOf, toNanos } from "./otlp-encoding.ts";
import type { OtlpSettings } from "./otlp-settings.ts";
import type { Timings } from "./timings.ts";
import type { Sampler, Trace } from "./trace.ts";

/** A settled request. Times are milliseconds since 1970. */
export type Observed = {
  trace: Trace | undefined;
  timings: Timings | undefined;
  requestId: string;
  projectId: string;
  /** The client's dialect. */
  format: string;
  requestedModel: string;
  /** Its base alone: a metric's labels have to be few. */
  model: string | undefined;
  answered: string | undefined;
  route: string | undefined;
  task: string | undefined;
  stream: boolean;
  httpStatus: number;
  errorCode: string | undefined;
  usage: UsageVector | undefined;
  ttftMs: number | undefined;
  startedAtMs: number;
  endedAtMs: number;
};

export type OtlpParts = {
  settings: OtlpSettings;
  logger: Logger;
  /** Told how many spans were not taken. */
  onDropped: (spans: number) => void;
  now: () => number;
};

/** Nothing waits for the collector: what it does not take, or is too much, is dropped and counted. */
export class OtlpExporter {
  /** Absent where traces go nowhere. */
  readonly sampler: Sampler | undefined;
  readonly #parts: OtlpParts;
  readonly #metrics: GenAiMetrics;
  #spans: object[] = [];
  #traceTimer: NodeJS.Timeout | undefined;
  #metricTimer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;

  constructor(parts: OtlpParts) {
    this.#parts = parts;
    const { settings, now } = parts;
    this.sampler = settings.tracesUrl ? settings.sampler : undefined;
    this.#metrics = new GenAiMetrics(now());
    if (settings.metricsUrl) {
      this.#metricTimer = setInterval(() => this.#sendMetrics(), settings.metricIntervalMs).unref();
    }
  }

  settled(observed: Observed): void {
    const { settings, onDropped } = this.#parts;
    const format = observed.trace?.calls.at(-1)?.format;
    if (settings.metricsUrl) {
      this.#metrics.observe(observed, {
        operation: operationOf(observed.format),
        provider: providerOf(format ?? observed.format),
      });
    }
    if (!observed.trace?.sampled) return;
    const spans = toSpans(observed, observed.trace);
    if (this.#spans.length + spans.length > spansMax) {
      onDropped(spans.length);
      return;
    }
    this.#spans.push(...spans);
    if (this.#spans.length >= batchSpans) this.#sendSpans();
    else this.#schedule();
  }

  /** Sends what is left. */
  async close(): Promise<void> {
    clearInterval(this.#metricTimer);
    await this.#sending;
    this.#sendSpans();
    await this.#sending;
    this.#sendMetrics();
    await this.#sending;
    clearTimeout(this.#traceTimer);
  }

  #schedule(): void {
    this.#traceTimer ??= setTimeout(
      () => this.#sendSpans(),
      this.#parts.settings.traceDelayMs,
    ).unref();
  }

  #sendSpans(): void {
    clearTimeout(this.#traceTimer);
    this.#traceTimer = undefined;
    // While a collector takes its time, what comes waits here, where it is bounded.
    if (this.#sending) {
      this.#schedule();
      return;
    }
    const { tracesUrl } = this.#parts.settings;
    const spans = this.#spans;
    if (!tracesUrl || spans.length === 0) return;
    this.#spans = [];
    const body = { resourceSpans: [{ ...this.#resource(), scopeSpans: [{ scope, spans }] }] };
    this.#send(tracesUrl, body, () => this.#parts.onDropped(spans.length));
  }

  #sendMetrics(): void {
    const { settings, now } = this.#parts;
    const metrics = this.#metrics.told(now());
    if (!settings.metricsUrl || metrics.length === 0 || this.#sending) return;
    const body = { resourceMetrics: [{ ...this.#resource(), scopeMetrics: [{ scope, metrics }] }] };
    this.#send(settings.metricsUrl, body, () => {});
  }

  #send(url: string, body: object, onFailed: () => void): void {
    const { settings, logger } = this.#parts;
    const send = async () => {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json", ...settings.headers },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(settings.timeoutMs),
      });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`the collector answers ${response.status}`);
    };
    this.#sending = send()
      .catch((error) => {
        onFailed();
        logger.warn({ error: String(error) }, "telemetry could not be sent");
      })
      .finally(() => {
        this.#sending = undefined;
      });
  }

  #resource() {
    return { resource: { attributes: attributesOf(this.#parts.settings.resource) } };
  }
}

/** The request, what was planned, and each call of an upstream. */
function toSpans(observed: Observed, trace: Trace): object[] {
  const { timings, startedAtMs, endedAtMs, errorCode, httpStatus, usage } = observed;
  const operation = operationOf(observed.format);
  const base = { traceId: trace.traceId, flags: 1 };
  const request = {
    "gen_ai.operation.name": operation,
    "gen_ai.request.model": observed.requestedModel,
    ...(observed.stream && { "gen_ai.request.stream": true }),
  };
  const answer = {
    "gen_ai.response.model": observed.answered,
    "gen_ai.usage.input_tokens": sumOf(usage, inputMeters),
    "gen_ai.usage.output_tokens": sumOf(usage, outputMeters),
    "gen_ai.usage.cache_read.input_tokens": usage?.cache_read,
    "gen_ai.usage.cache_creation.input_tokens": usage?.cache_write,
    "gen_ai.usage.reasoning.output_tokens": usage?.reasoning,
    "gen_ai.response.time_to_first_chunk":
      observed.ttftMs === undefined ? undefined : observed.ttftMs / 1000,
  };
  const server = {
    ...base,
    spanId: trace.spanId,
    ...(trace.parentSpanId !== undefined && { parentSpanId: trace.parentSpanId }),
    name: `POST ${trace.path}`,
    kind: spanKinds.server,
    ...timesOf(startedAtMs, endedAtMs),
    attributes: attributesOf({
      ...request,
      ...answer,
      "http.request.method": "POST",
      "url.path": trace.path,
      "http.response.status_code": httpStatus,
      "error.type": errorCode,
      "switchyard.request.id": observed.requestId,
      "switchyard.project.id": observed.projectId,
      "switchyard.route": observed.route,
      "switchyard.task": observed.task,
      "switchyard.overhead_ms": timings?.overheadMs,
    }),
    // By the conventions a client's own mistake is no error of a server.
    status: httpStatus >= 500 ? { code: errorStatus, message: errorCode } : {},
  };
  const calls = trace.calls.map((call, index) => {
    const isLast = index === trace.calls.length - 1;
    const answered = isLast && call.error === undefined;
    const { upstream, deployment } = call;
    return {
      ...base,
      spanId: call.spanId,
      parentSpanId: trace.spanId,
      name: `${operation} ${call.model}`,
      kind: spanKinds.client,
      ...timesOf(call.startedAtMs, call.endedAtMs ?? endedAtMs),
      attributes: attributesOf({
        ...request,
        "gen_ai.request.model": call.model,
        "gen_ai.provider.name": providerOf(call.format),
        ...(answered && answer),
        "error.type": call.error,
        "switchyard.upstream": upstream,
        "switchyard.deployment": deployment === upstream ? undefined : deployment,
      }),
      status: call.error === undefined ? {} : { code: errorStatus, message: call.error },
    } satisfies object;
  });
  if (!timings) return [server, ...calls];
  const plannedAtMs = startedAtMs + timings.identifyMs + timings.parseMs;
  const plan = {
    ...base,
    spanId: planSpanId(trace.spanId),
    parentSpanId: trace.spanId,
    name: "plan",
    kind: spanKinds.internal,
    ...timesOf(plannedAtMs, plannedAtMs + timings.planMs),
    attributes: attributesOf({ "switchyard.route": observed.route }),
    status: {},
  };
  return [server, plan, ...calls];
}

/** One bit from the request's: another of the same trace, without drawing again. */
function planSpanId(spanId: string): string {
  const last = Number.parseInt(spanId.slice(-1), 16) ^ 1;
  return spanId.slice(0, -1) + last.toString(16);
}

function timesOf(fromMs: number, toMs: number) {
  return {
    startTimeUnixNano: toNanos(fromMs),
    endTimeUnixNano: toNanos(Math.max(fromMs, toMs)),
  };
}

/** @see https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md */
function operationOf(format: string): string {
  if (format === "gemini") return "generate_content";
  if (format === "openai-completions") return "text_completion";
  if (format === "openai-embeddings") return "embeddings";
  return /chat|messages|responses|converse/.test(format) ? "chat" : format;
}

function providerOf(format: string): string {
  if (format.startsWith("anthropic")) return "anthropic";
  if (format.startsWith("bedrock")) return "aws.bedrock";
  if (format.startsWith("cohere")) return "cohere";
  return format === "gemini" ? "gcp.gemini" : "openai";
}

/** Spans that wait, and as many as go out at once. */
const spansMax = 2048;
const batchSpans = 512;
const spanKinds = { internal: 1, server: 2, client: 3 } as const;
const errorStatus = 2;
const scope = { name: "switchyard.gateway" };
