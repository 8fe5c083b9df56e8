/** Tells accounts, metrics and log what became of a request: once, and before its client sees the end. */
import type { Logger } from "pino";
import { errorTable, type HubError } from "../../sdk/protocol/errors.ts";
import { inputMeters, type Meter, type UsageVector } from "../../sdk/protocol/usage.ts";
import type { AnswerStream } from "../attempts/answer-stream.ts";
import type { Tried, Unanswered } from "../attempts/ask-model.ts";
import type { AttemptResult } from "../attempts/attempt.ts";
import type { RelayEnd } from "../attempts/relay.ts";
import type { Call } from "../dialects/dialect.ts";
import type { Exchange } from "../http/exchange.ts";
import type { ReadUsage } from "../ledger/usage.ts";
import type {
  PricedModel,
  Principal,
  Reservation,
  Settled,
  Settlement,
} from "../metering/types.ts";
import type { GatewayMetrics } from "../metrics.ts";
import type { OtlpExporter } from "../observing/otlp.ts";
import { ownParts, rounded } from "../observing/timings.ts";
import type { Plan } from "../routing/plan.ts";
import { type Target, toPricedModel } from "../routing/resolve.ts";
import { countOutput, guessInput } from "../tokens/count.ts";

export type SettleParts = {
  metrics: GatewayMetrics;
  logger: Logger;
  now: () => number;
  telemetry?: OtlpExporter | undefined;
  imageTokens: number;
};

export type SettleInput = {
  exchange: Exchange;
  principal: Principal;
  call: Call;
  plan: Plan;
  /** The route's default, whose price is the baseline of what routing saved. */
  defaultModel: PricedModel | undefined;
  tags: Readonly<Record<string, string>>;
  endUser: string | undefined;
  reservation: Reservation;
  /** Whether a model has a price for it: how it is billed. */
  isPriced: (target: Target, meter: Meter) => boolean;
};

/** What an answer used. */
export type Used = { usage: UsageVector; estimated: boolean; adapterDigest?: string | undefined };

type Answered = Extract<AttemptResult, { type: "answer" | "stream" }>;

/** What is asked of a stream that has ended. */
type Relayed = Pick<Extract<Answered, { type: "stream" }>, "target" | "adapterDigest"> & {
  stream: { reader: Pick<AnswerStream, "usage" | "relayed"> };
};

/** How a request ended, in the words of the settlement. */
type Ending = {
  outcome: Settlement["outcome"];
  httpStatus: number;
  error?: HubError;
  target: Target | undefined;
  adapterDigest?: string | undefined;
  usage: ReadUsage | undefined;
  estimated: boolean;
  ttftMs?: number | undefined;
  /** Of an answer that was kept: what it used when it was made. */
  responseCache?: Settlement["responseCache"];
};

export class Settling {
  readonly #input: SettleInput;
  readonly #parts: SettleParts;
  #tried: readonly Tried[] = [];
  #unanswered: NonNullable<Settlement["unanswered"]> = [];
  #ttftMs: number | undefined;
  #ending: Ending | undefined;

  constructor(input: SettleInput, parts: SettleParts) {
    this.#input = input;
    this.#parts = parts;
    parts.metrics.inFlight.add(1);
  }

  /** The attempts are over and something answers, or nothing does. */
  attempted(result: AttemptResult): void {
    const { metrics, now } = this.#parts;
    this.#input.exchange.timings?.attempted();
    const used = new Map(result.unanswered.map((one) => [one.tried, this.#usedUnanswered(one)]));
    this.#unanswered = [...used.values()];
    this.#tried = result.tried.map((one) => {
      const { usage, estimated } = used.get(one) ?? {};
      return usage ? { ...one, usage, ...(estimated && { estimated }) } : one;
    });
    for (const { upstream, usage } of this.#unanswered) {
      const tokens = inputMeters.reduce((sum, meter) => sum + (usage[meter] ?? 0), 0);
      metrics.unansweredTokens.add(tokens, upstream);
    }
    for (const { upstream, error, ms, sentMs, headMs } of result.tried) {
      metrics.upstreamAttempts.add(1, upstream, error ?? "ok");
      metrics.upstreamSeconds.observe(ms / 1000, upstream);
      if (sentMs !== undefined) metrics.upstreamSent.observe(sentMs / 1000, upstream);
      if (headMs !== undefined) metrics.upstreamHead.observe(headMs / 1000, upstream);
    }
    if (result.type !== "stream") return;
    this.#ttftMs = now() - this.#input.exchange.startedAtMs;
    metrics.ttft.observe(this.#ttftMs / 1000, result.target.model.id);
  }

  /** A whole answer is here; where it may not pass, it is paid for all the same. */
  answered(
    { target, adapterDigest, answer }: Extract<Answered, { type: "answer" }>,
    refusal?: HubError,
  ): Promise<Settled> {
    return this.#settle({
      ...(refusal
        ? { outcome: "refused", httpStatus: refusal.status, error: refusal }
        : { outcome: "ok", httpStatus: 200 }),
      target,
      adapterDigest,
      ...this.#measure(target, { told: answer.usage, output: answer.text }),
    });
  }

  /** A stream has ended, one way or another; what was relayed is counted where nobody told the usage. */
  relayed({ target, adapterDigest, stream }: Relayed, end: RelayEnd): Promise<Settled> {
    const { usage, relayed } = stream.reader;
    return this.#settle({
      ...(end.type === "done"
        ? { outcome: "ok", httpStatus: 200 }
        : end.type === "client_gone"
          ? { outcome: "client_gone", httpStatus: clientGoneStatus }
          : {
              outcome: end.type === "cut" || isOurs(end.error) ? "refused" : "upstream_failed",
              httpStatus: 200,
              error: end.error,
            }),
      target,
      adapterDigest,
      ...this.#usageOfStream(target, { told: usage, relayed, whole: end.type === "done" }),
    });
  }

  /** Some providers tell a running total; of a stream that was broken off it may lag behind what was relayed. */
  #usageOfStream(
    target: Target,
    { told, relayed, whole }: { told: ReadUsage | undefined; relayed: object; whole: boolean },
  ): { usage: ReadUsage; estimated: boolean } {
    const measured = this.#measure(target, { told, output: relayed });
    if (!told || whole || this.#input.call.measure) return measured;
    const counted = this.#estimate(target, relayed);
    const { output = 0, reasoning = 0 } = told.usage;
    const behind = (counted.usage.output ?? 0) - output - reasoning;
    if (behind <= 0) return { usage: told, estimated: false };
    const usage = { ...told.usage, output: output + behind };
    return { usage: { ...told, usage }, estimated: true };
  }

  /** An answer that was kept is given again: no model was asked, so nothing is used. */
  replayed(target: Target, { usage, estimated, adapterDigest }: Used): Promise<Settled> {
    const none = Object.keys(usage).map((meter) => [meter, 0] as const);
    return this.#settle({
      outcome: "ok",
      httpStatus: 200,
      target,
      adapterDigest,
      usage: { usage: Object.fromEntries(none), inconsistent: false },
      estimated: false,
      responseCache: { usage, estimated },
    });
  }

  /** What was used, where `target` has answered to the end, and as the adapter that it stands for. */
  usedBy(target: Target): Used | undefined {
    const { outcome, target: answered, usage, estimated, adapterDigest } = this.#ending ?? {};
    if (outcome !== "ok" || answered?.name !== target.name || !usage) return undefined;
    const { digest } = target.adapter ?? {};
    if (digest !== undefined && adapterDigest !== undefined && digest !== adapterDigest) {
      return undefined;
    }
    return { usage: usage.usage, estimated: estimated === true, adapterDigest };
  }

  /**
   * Nothing answered. A client that left a model at work, or gave it too little time, is charged for the
   * input, as providers charge it; one that left before anything was sent owes nothing.
   */
  failed(result: Extract<AttemptResult, { type: "failed" }>): Promise<Settled> {
    const { error, clientGone, sent } = result;
    if (clientGone) {
      return this.#settle({
        outcome: "client_gone",
        httpStatus: error.status,
        error,
        target: sent,
        usage: sent && this.#measure(sent, { told: undefined, output: "" }).usage,
        estimated: true,
      });
    }
    return this.#settle({
      outcome: error.status < 500 && error.status !== 429 ? "refused" : "upstream_failed",
      httpStatus: error.status,
      error,
      target: undefined,
      usage: undefined,
      estimated: false,
    });
  }

  /** At least its input; of what was cut off the provider may count more than it had told by then. */
  #usedUnanswered({ target, told, isPartial }: Unanswered) {
    const { usage, estimated } = this.#measure(target, { told, output: "" });
    return {
      ...toPricedModel(target),
      upstream: target.model.upstream,
      usage: usage.usage,
      ...((estimated || isPartial) && { estimated: true as const }),
    };
  }

  /** What the provider told, and where it told nothing what can be known of it otherwise. */
  #measure(
    target: Target,
    { told, output }: { told: ReadUsage | undefined; output: { toString(): string } },
  ): { usage: ReadUsage; estimated: boolean } {
    const { call, isPriced } = this.#input;
    const measured = call.measure?.({
      told: told?.usage,
      output,
      isPriced: (meter) => isPriced(target, meter),
    });
    if (measured) {
      const { usage, estimated } = measured;
      return { usage: { usage, inconsistent: told?.inconsistent ?? false }, estimated };
    }
    if (told) return { usage: told, estimated: false };
    return { usage: this.#estimate(target, output), estimated: true };
  }

  #estimate(target: Target, output: { toString(): string }): ReadUsage {
    const { call } = this.#input;
    const { tokenizer } = target.model;
    return {
      usage: {
        input: guessInput(call, this.#parts.imageTokens),
        output: countOutput(output, tokenizer),
      },
      inconsistent: false,
    };
  }

  async #settle(ending: Ending): Promise<Settled> {
    const { exchange, reservation } = this.#input;
    this.#ending = ending;
    const durationMs = this.#parts.now() - exchange.startedAtMs;
    exchange.timings?.skip();
    try {
      const settled = await reservation.settle(this.#toSettlement(ending, durationMs));
      this.#record(ending, durationMs, settled);
      return settled;
    } catch (cause) {
      this.#parts.logger.error(
        { requestId: exchange.requestId, error: String(cause) },
        "a request could not be settled",
      );
      this.#record(ending, durationMs, {});
      return {};
    }
  }

  #toSettlement(ending: Ending, durationMs: number): Settlement {
    const { exchange, call, plan, defaultModel, tags, endUser } = this.#input;
    const { decision } = plan;
    const { target, usage, error, adapterDigest } = ending;
    return {
      ...(target && {
        answered: {
          ...toPricedModel(target),
          ...(target.adapter && { adapterVersion: target.adapter.version }),
          ...(adapterDigest !== undefined && { adapterDigest }),
          upstream: target.model.upstream,
        },
      }),
      ...(usage && { usage: usage.usage }),
      estimated: ending.estimated,
      ...(ending.responseCache && { responseCache: ending.responseCache }),
      ...(usage?.inconsistent && { inconsistent: true }),
      ...(this.#unanswered.length > 0 && { unanswered: this.#unanswered }),
      outcome: ending.outcome,
      httpStatus: ending.httpStatus,
      ...(error && { errorCode: error.code }),
      format: call.dialect.format,
      requestedModel: decision.requested,
      ...(decision.route !== undefined && { route: decision.route }),
      ...(defaultModel && { defaultModel }),
      ...(decision.task !== undefined && { task: decision.task }),
      endUser,
      tags,
      stream: call.stream,
      startedAtMs: Math.floor(exchange.startedAtMs),
      ...(this.#ttftMs !== undefined && { ttftMs: Math.round(this.#ttftMs) }),
      durationMs: Math.round(durationMs),
      ...(exchange.timings && { timings: exchange.timings.toRow() }),
      decision: {
        ...decision,
        tried: this.#tried,
        ...(call.guard && { guardrails: call.guard.reports() }),
      },
    };
  }

  #record(ending: Ending, durationMs: number, { cost }: Settled): void {
    const { metrics, logger } = this.#parts;
    const { exchange, principal, call, plan } = this.#input;
    const { timings } = exchange;
    if (timings) {
      timings.ended("settle");
      for (const part of ownParts) metrics.overheadPart.observe(timings[`${part}Ms`] / 1000, part);
      metrics.overhead.observe(timings.overheadMs / 1000);
    }
    const model = ending.target?.name ?? "";
    const code = ending.error?.code ?? "";
    const { outcome, httpStatus } = ending;
    // Whoever reaches the door may read its metrics, and an adapter's name is its project's own.
    const base = ending.target?.model.id ?? "";
    metrics.inFlight.add(-1);
    metrics.requests.add(1, base, outcome, String(httpStatus), code);
    metrics.duration.observe(durationMs / 1000, base, String(call.stream));
    countTokens(metrics, base, ending.usage?.usage);
    if (ending.target && cost === undefined) metrics.unpriced.add(1, base);
    this.#parts.telemetry?.settled({
      trace: exchange.trace,
      timings,
      requestId: exchange.requestId,
      projectId: principal.project.id,
      format: call.dialect.format,
      requestedModel: plan.decision.requested.slice(0, 200),
      model: ending.target?.model.id,
      answered: ending.target?.name,
      route: plan.decision.route,
      task: plan.decision.task,
      stream: call.stream,
      httpStatus,
      errorCode: ending.error?.code,
      usage: ending.usage?.usage,
      ttftMs: this.#ttftMs,
      startedAtMs: exchange.startedAtMs,
      endedAtMs: exchange.startedAtMs + durationMs,
    });
    const level = ending.error && errorTable[ending.error.code].status >= 500 ? "warn" : "info";
    logger[level](
      {
        requestId: exchange.requestId,
        project: principal.project.id,
        key: principal.key.id,
        requested: plan.decision.requested.slice(0, 200),
        route: plan.decision.route,
        task: plan.decision.task,
        model,
        outcome,
        status: httpStatus,
        error: ending.error?.unquoted,
        ms: Math.round(durationMs),
        overheadMs: timings && rounded(timings.overheadMs),
        ttftMs: this.#ttftMs === undefined ? undefined : Math.round(this.#ttftMs),
        usage: ending.usage?.usage,
        estimated: ending.estimated || undefined,
        responseCache: ending.responseCache && "hit",
        picoUsd: cost?.toString(),
        tried: this.#tried.length > 1 ? this.#tried : undefined,
        guardrails: call.guard?.reports(),
      },
      "request",
    );
  }
}

/** Whether we ended a stream, and not its upstream. */
function isOurs({ code }: HubError): boolean {
  return code === "guardrail_blocked" || code === "guardrail_unavailable";
}

function countTokens(metrics: GatewayMetrics, model: string, usage: UsageVector | undefined): void {
  for (const [meter, count] of Object.entries(usage ?? {})) {
    if (count > 0) metrics.tokens.add(count, model, meter);
  }
}

/** Nobody receives it; nginx's number for a request whose client closed it. */
const clientGoneStatus = 499;
