/** Tells accounts, metrics and log what became of a request: once, and before its client sees the end. */
import type { Logger } from "pino";
import { errorTable, type HubError } from "../../sdk/protocol/errors.ts";
import type { UsageVector } from "../../sdk/protocol/usage.ts";
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
import type { Plan } from "../routing/plan.ts";
import { type Target, toPricedModel } from "../routing/resolve.ts";
import { countOutput, guessInput } from "../tokens/count.ts";

export type SettleParts = {
  metrics: GatewayMetrics;
  logger: Logger;
  now: () => number;
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
  reservation: Reservation;
};

type Answered = Extract<AttemptResult, { type: "answer" | "stream" }>;

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
};

export class Settling {
  readonly #input: SettleInput;
  readonly #parts: SettleParts;
  #tried: AttemptResult["tried"] = [];
  #ttftMs: number | undefined;

  constructor(input: SettleInput, parts: SettleParts) {
    this.#input = input;
    this.#parts = parts;
    parts.metrics.inFlight.inc();
  }

  /** The attempts are over and something answers, or nothing does. */
  attempted(result: AttemptResult): void {
    const { metrics, now } = this.#parts;
    this.#tried = result.tried;
    for (const { upstream, error, ms } of result.tried) {
      metrics.upstreamAttempts.inc({ upstream, result: error ?? "ok" });
      metrics.upstreamSeconds.observe({ upstream }, ms / 1000);
    }
    if (result.type !== "stream") return;
    this.#ttftMs = now() - this.#input.exchange.startedAtMs;
    metrics.ttft.observe({ model: result.target.model.id }, this.#ttftMs / 1000);
  }

  /** A whole answer is here. */
  answered({
    target,
    adapterDigest,
    answer,
  }: Extract<Answered, { type: "answer" }>): Promise<Settled> {
    const { usage } = answer;
    return this.#settle({
      outcome: "ok",
      httpStatus: 200,
      target,
      adapterDigest,
      usage: usage ?? this.#estimate(target, answer.text),
      estimated: usage === undefined,
    });
  }

  /** A stream has ended, one way or another; what was relayed is counted where nobody told the usage. */
  relayed(
    { target, adapterDigest, stream }: Extract<Answered, { type: "stream" }>,
    end: RelayEnd,
  ): Promise<Settled> {
    const { usage, relayed } = stream.reader;
    return this.#settle({
      ...(end.type === "done"
        ? { outcome: "ok", httpStatus: 200 }
        : end.type === "client_gone"
          ? { outcome: "client_gone", httpStatus: clientGoneStatus }
          : { outcome: "upstream_failed", httpStatus: 200, error: end.error }),
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
    if (told && whole) return { usage: told, estimated: false };
    const counted = this.#estimate(target, relayed);
    if (!told) return { usage: counted, estimated: true };
    const { output = 0, reasoning = 0 } = told.usage;
    const behind = (counted.usage.output ?? 0) - output - reasoning;
    if (behind <= 0) return { usage: told, estimated: false };
    const usage = { ...told.usage, output: output + behind };
    return { usage: { ...told, usage }, estimated: true };
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
        usage: sent && this.#estimate(sent, ""),
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
    const durationMs = this.#parts.now() - exchange.startedAtMs;
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
    const { exchange, call, plan, defaultModel, tags } = this.#input;
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
      ...(usage?.inconsistent && { inconsistent: true }),
      outcome: ending.outcome,
      httpStatus: ending.httpStatus,
      ...(error && { errorCode: error.code }),
      requestedModel: decision.requested,
      ...(decision.route !== undefined && { route: decision.route }),
      ...(defaultModel && { defaultModel }),
      ...(decision.task !== undefined && { task: decision.task }),
      tags,
      stream: call.stream,
      startedAtMs: Math.floor(exchange.startedAtMs),
      ...(this.#ttftMs !== undefined && { ttftMs: Math.round(this.#ttftMs) }),
      durationMs: Math.round(durationMs),
      decision: { ...decision, tried: this.#tried },
    };
  }

  #record(ending: Ending, durationMs: number, { cost }: Settled): void {
    const { metrics, logger } = this.#parts;
    const { exchange, principal, call, plan } = this.#input;
    const model = ending.target?.name ?? "";
    const code = ending.error?.code ?? "";
    const { outcome, httpStatus } = ending;
    // Whoever reaches the door may read its metrics, and an adapter's name is its project's own.
    const base = ending.target?.model.id ?? "";
    metrics.inFlight.dec();
    metrics.requests.inc({ model: base, outcome, status: httpStatus, code });
    metrics.duration.observe({ model: base, stream: String(call.stream) }, durationMs / 1000);
    countTokens(metrics, base, ending.usage?.usage);
    if (ending.target && cost === undefined) metrics.unpriced.inc({ model: base });
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
        ttftMs: this.#ttftMs === undefined ? undefined : Math.round(this.#ttftMs),
        usage: ending.usage?.usage,
        estimated: ending.estimated || undefined,
        picoUsd: cost?.toString(),
        tried: this.#tried.length > 1 ? this.#tried : undefined,
      },
      "request",
    );
  }
}

function countTokens(metrics: GatewayMetrics, model: string, usage: UsageVector | undefined): void {
  for (const [meter, count] of Object.entries(usage ?? {})) {
    if (count > 0) metrics.tokens.inc({ model, meter }, count);
  }
}

/** Nobody receives it; nginx's number for a request whose client closed it. */
const clientGoneStatus = 499;
