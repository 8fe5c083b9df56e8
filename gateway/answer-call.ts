/** A request's way through the gateway, in order, whatever dialect its client speaks. */
import { HubError } from "../sdk/protocol/errors.ts";
import { tagsHeader, taskHeader } from "../sdk/protocol/http.ts";
import type { Meter } from "../sdk/protocol/usage.ts";
import type { AppParts } from "./app.ts";
import { type AttemptResult, attemptInOrder } from "./attempts/attempt.ts";
import { relay } from "./attempts/relay.ts";
import { batchCallerOf } from "./batches/callers.ts";
import type { Capture } from "./content-log/content-log.ts";
import type { Call } from "./dialects/dialect.ts";
import { guardAnswer, guardCall, guardHeaders } from "./guardrails/guard-call.ts";
import { type JudgeCaller, judgeCallerOf } from "./guardrails/judge.ts";
import { answerHeaders, refusal, streamedAnswer, wholeAnswer } from "./http/answers.ts";
import { credentialOf } from "./http/credential.ts";
import { baseHeaders, type Exchange, openExchange } from "./http/exchange.ts";
import { explainHeaders } from "./http/explain.ts";
import { readTags } from "./http/tags.ts";
import { readIdempotencyKey, replayedHeader } from "./idempotency/idempotency.ts";
import { endUserOf } from "./identity/end-user.ts";
import { priceOf } from "./ledger/price-book.ts";
import type { Principal, Reservation } from "./metering/types.ts";
import { Trace } from "./observing/trace.ts";
import { answerFromCache } from "./response-cache/answer-from-cache.ts";
import { readCacheAsked } from "./response-cache/asked.ts";
import { classify } from "./routing/classify.ts";
import { makePlan, type Plan, withinBudget } from "./routing/plan.ts";
import {
  findTarget,
  type Resolved,
  resolve,
  resolveMix,
  type Scope,
  scopeOf,
  type Target,
  toPricedModel,
} from "./routing/resolve.ts";
import { reserve } from "./settling/reserve.ts";
import { Settling } from "./settling/settle.ts";
import { meterOf } from "./settling/stream-meter.ts";
import { countInput, guessInput, inputTokensBound } from "./tokens/count.ts";

/** Reads the body, as the client's dialect has it, for the project that asks. */
export type ReadCall = (projectId: string) => Promise<Call>;

/** A request that says by its `Idempotency-Key` that it may be sent again is answered once. */
export async function answerCall(
  request: Request,
  { exchange, read }: { exchange: Exchange; read: ReadCall },
  parts: AppParts,
): Promise<Response> {
  // identify
  const batch = batchCallerOf(request);
  const judge = judgeCallerOf(request);
  const principal =
    judge?.principal ??
    (batch
      ? parts.identity.identifyKey(batch.keyId, new URL(request.url).pathname)
      : parts.identity.identifyProject(credentialOf(request)));
  const scope = scopeOf(principal, parts.snapshot());
  // A key's models are those that its holder may name; a judge is named by an administrator.
  if (judge) scope.models = undefined;
  const { timings } = exchange;
  exchange.trace = new Trace(request, parts.telemetry?.sampler);
  timings?.ended("identify");
  // parse
  const call = await read(scope.projectId);
  timings?.ended("parse");
  try {
    const asked = { request, exchange, principal, scope, batchId: batch?.batchId, judge };
    return await answerOnce(call, asked, parts);
  } catch (error) {
    await call.form?.close();
    throw error;
  }
}

type Asked = {
  request: Request;
  exchange: Exchange;
  principal: Principal;
  scope: Scope;
  /** Of the batch that asks. */
  batchId: string | undefined;
  /** A guardrail that asks a model. */
  judge: JudgeCaller | undefined;
};

async function answerOnce(call: Call, asked: Asked, parts: AppParts): Promise<Response> {
  const { request, exchange, scope } = asked;
  const ask = (making: Making) => carryOut(call, { ...asked, ...making }, parts);
  const key = parts.idempotency && readIdempotencyKey(request.headers);
  if (key === undefined || !parts.idempotency) {
    return ask({ client: request.signal, broke: () => {} });
  }
  const { projectId } = scope;
  const { requestId } = exchange;
  // A query says how a stream is framed, and may hold the credential.
  const url = new URL(request.url);
  url.searchParams.delete("key");
  const body = call.source?.text ?? JSON.stringify(call.body);
  const keyed = {
    projectId,
    key,
    asked: [url.pathname + url.search, await call.form?.digest(), body].join("\n"),
    requestId,
    client: request.signal,
  };
  const response = await parts.idempotency.once(keyed, ask);
  if (response.headers.has(replayedHeader)) await call.form?.close();
  for (const [name, value] of Object.entries(baseHeaders(exchange, parts.now()))) {
    response.headers.set(name, value);
  }
  return response;
}

export type Making = {
  /** Aborted when nobody wants the answer any more. */
  client: AbortSignal;
  /** Told that a stream did not come to a good end. */
  broke: () => void;
};

async function carryOut(call: Call, asked: Asked & Making, parts: AppParts): Promise<Response> {
  const { request, exchange, client, broke } = asked;
  const { background, responseCache, limits } = parts;
  const { responseCache: setting } = asked.principal.project;
  const wanted = responseCache && readCacheAsked(request.headers, setting, limits);
  const reserved = await reserveCall(call, asked, parts);
  if (background && call.background) {
    // From here on this process is the client; a stream of it ends well, however it ends.
    return background.start(reserved, (process) =>
      answerReserved(reserved, { client: process, broke: () => {} }, parts),
    );
  }
  const deadline = { clientDeadlineMs: clientDeadlineMs(request, exchange) };
  const ask = (making: Making) => answerReserved(reserved, { ...making, ...deadline }, parts);
  if (!responseCache || !wanted) return ask({ client, broke });
  return answerFromCache(reserved, { client, broke, wanted, ask }, { ...parts, responseCache });
}

/** A call that may be sent; what it may use is reserved. */
export type ReservedCall = {
  request: Request;
  exchange: Exchange;
  principal: Principal;
  call: Call;
  plan: Plan;
  reservation: Reservation;
  settling: Settling;
  /** What is kept of what is said; absent where the project lets nothing be kept. */
  capture: Capture | undefined;
  isPriced: (target: Target, meter: Meter) => boolean;
};

/** Before `reserve` nothing is held; from there on `settling` ends the request exactly once. */
async function reserveCall(
  call: Call,
  { request, exchange, principal, scope, batchId, judge }: Asked,
  parts: AppParts,
): Promise<ReservedCall> {
  const { accounts, limits, now } = parts;
  const prices = scope.snapshot.price.bind(scope.snapshot);
  const isPriced = (target: Target, meter: Meter) =>
    priceOf(toPricedModel(target), meter, prices, now()) !== undefined;
  exchange.timings?.skip();
  const tags = { ...readTags(request.headers.get(tagsHeader)), ...judge?.tags };
  const endUser = endUserOf(request, call);
  // look at it
  if (principal.project.guardrails?.length && !judge) {
    const about = { principal, exchange, client: request.signal };
    call.guard = await guardCall(call, about, parts, (own, read) =>
      answerCall(own, { exchange: openExchange(parts.now), read }, parts),
    );
  }
  // resolve, classify, plan
  const planned = planCall(call, request.headers.get(taskHeader), scope, parts);
  const defaultModel = defaultModelOf(planned, scope);
  exchange.timings?.ended("plan");
  // reserve
  const { requestId } = exchange;
  const { plan, reservation } = await reserveFor(planned, (targets) =>
    reserve(accounts, { requestId, principal, batchId, call, endUser, targets, limits }),
  );
  exchange.timings?.ended("reserve");
  const settling = new Settling(
    { exchange, principal, call, plan, defaultModel, tags, endUser, reservation, isPriced },
    { ...parts, imageTokens: limits.imageTokens },
  );
  // What a judge is shown is another request's.
  const capture =
    principal.project.contentLog && !judge
      ? parts.contentLog?.begin({ ...principal, ...exchange, endUser, call })
      : undefined;
  return { request, exchange, principal, call, plan, reservation, settling, capture, isPriced };
}

async function answerReserved(
  reserved: ReservedCall,
  { client, broke, clientDeadlineMs }: Making & { clientDeadlineMs?: number | undefined },
  parts: AppParts,
): Promise<Response> {
  const { request, exchange, principal, call, plan, reservation, settling, isPriced } = reserved;
  const { capture } = reserved;
  const { limits, now } = parts;
  const { requestId } = exchange;
  const { dialect } = call;
  exchange.timings?.skip();
  // attempt
  const { guard } = call;
  const asked = {
    targets: plan.targets,
    fallbackOn: plan.fallbackOn,
    call,
    context: {
      requestId,
      projectId: principal.project.id,
      startedAtMs: exchange.startedAtMs,
      nowMs: now,
      timings: exchange.timings,
      trace: exchange.trace,
      ...(capture?.hear && { hear: capture.hear }),
      isPriced,
      canWait: batchCallerOf(request) !== undefined,
    },
    client,
    clientDeadlineMs,
    upstream: (name: string) => parts.upstreams.get(name),
    inputTokens: guessInput(call, limits.imageTokens),
    limits,
    now,
    random: parts.random,
  };
  const result: AttemptResult = guard?.refusal
    ? {
        type: "failed",
        error: guard.refusal,
        clientGone: false,
        sent: undefined,
        tried: [],
        unanswered: [],
      }
    : await attemptInOrder(asked);
  settling.attempted(result);
  // A stream may have begun before the form was sent to its end.
  if (result.type !== "stream") await call.form?.close();
  // settle, record, answer
  const explained = explainHeaders(request, { decision: plan.decision, tried: result.tried });
  const headersOf = (answered: Exclude<AttemptResult, { type: "failed" }>) => ({
    ...baseHeaders(exchange, now()),
    ...reservation.headers,
    ...answerHeaders(answered, plan.decision),
    ...guardHeaders(call),
    ...(result.tried.length > 1 && { "x-switchyard-attempts": String(result.tried.length) }),
    ...explained,
  });
  switch (result.type) {
    case "answer": {
      const guarded = guard && (await guardAnswer(guard, result.answer));
      const answer = guarded?.answer ?? result.answer;
      const { cost } = await settling.answered(result, guarded?.refusal);
      capture?.ended({ heard: result.heard?.(), text: result.answer.text, complete: true });
      if (guarded?.refusal) {
        return refusal(guarded.refusal, { dialect, requestId }, headersOf(result));
      }
      const isKept = await keep(call, () => answer.whole, { requestId, ...parts });
      const { bytes } = isKept ? answer : (answer.write?.() ?? answer);
      return wholeAnswer({ ...answer, bytes }, headersOf(result), cost);
    }
    case "stream": {
      const ended = parts.inFlight.open();
      const body = relay(result.stream, {
        keepAliveMs: limits.keepAliveMs,
        keepAlive: dialect.keepAlive,
        meter: meterOf(reservation, { call, target: result.target, limits }),
        onEnd: async (end) => {
          if (end.type !== "done") broke();
          try {
            await settling.relayed(result, end);
            capture?.ended({
              heard: result.heard?.(),
              text: result.stream.reader.relayed,
              complete: end.type === "done",
            });
            if (end.type === "done") {
              const { reader } = result.stream;
              await keep(call, () => reader.whole?.(), { requestId, ...parts });
            }
          } finally {
            ended();
            await call.form?.close();
          }
        },
      });
      const { contentType = dialect.streamType } = result.stream.reader;
      return streamedAnswer(body, contentType, headersOf(result));
    }
    case "failed": {
      await settling.failed(result);
      if (result.sent) capture?.ended();
      else capture?.unsent();
      const { cause } = result.error;
      if (result.error.code === "internal_error" && cause instanceof Error) {
        parts.logger.error({ requestId, error: cause.stack }, "failed");
      }
      const headers = {
        ...baseHeaders(exchange, now()),
        ...reservation.headers,
        ...guardHeaders(call),
        ...explained,
      };
      return refusal(result.error, { dialect, requestId }, headers);
    }
    default:
      return result satisfies never;
  }
}

/** Reserves for the dearest that may be asked; where a budget refuses that, the route may have cheaper ones for it. */
async function reserveFor(
  plan: Plan,
  reserveAll: (targets: readonly Target[]) => Promise<Reservation>,
): Promise<{ plan: Plan; reservation: Reservation }> {
  const { targets, fallbackOn } = plan;
  const others = [...fallbackOn].flatMap(([code, models]) =>
    code === "insufficient_quota" ? [] : models,
  );
  try {
    return { plan, reservation: await reserveAll([...targets, ...others]) };
  } catch (refusal) {
    const isEmpty = refusal instanceof HubError && refusal.code === "insufficient_quota";
    const cheaper = isEmpty ? withinBudget(plan) : undefined;
    if (!cheaper) throw refusal;
    return { plan: cheaper, reservation: await reserveAll(cheaper.targets) };
  }
}

/** @returns false when the answer was to be kept and was not, of which the call knows to tell */
async function keep(
  call: Call,
  whole: () => unknown,
  { requestId, logger }: { requestId: string } & Pick<AppParts, "logger">,
): Promise<boolean> {
  try {
    if (call.keep) await call.keep(whole(), { requestId });
    return true;
  } catch (error) {
    logger.warn({ error: String(error) }, "an answer could not be kept");
    return false;
  }
}

export function planCall(
  call: Call,
  task: string | null,
  scope: Scope,
  { limits, upstreams, now }: Pick<AppParts, "limits" | "upstreams" | "now">,
): Plan {
  const { model: requested, metadata } = call;
  const resolved = withMix(resolve(requested, scope), call, scope);
  const route = resolved.type === "route" ? resolved.route : undefined;
  return makePlan({
    requested,
    resolved,
    classified: classify({ header: task, metadata, route, texts: () => call.texts() }),
    scope,
    upstream(name) {
      const upstream = upstreams.get(name);
      if (!upstream) return undefined;
      const { notConfigured, servesAdapters } = upstream.provider;
      const { own } = upstream;
      return { notConfigured, servesAdapters, own, retryAfterMs: upstream.retryAfterMs() };
    },
    inputTokens({ model }) {
      const bound = inputTokensBound(call, limits);
      const fits = bound + (call.outputTokensMax ?? 0) <= (model.contextLength ?? bound);
      // Counting holds up everyone else, and takes as long as the text is.
      const isLong = call.bodyBytes > limits.countBytesMax;
      if (fits || isLong || model.tokenizer === undefined) {
        return { tokens: guessInput(call, limits.imageTokens), exact: false };
      }
      return { tokens: countInput(call, model.tokenizer, limits), exact: true };
    },
    outputTokensMax: call.outputTokensMax,
    tariffs: call.tariffs?.({ inputTokens: 0, outputTokensMax: 0 }),
    attemptsMax: limits.attemptsMax,
    nowMs: now(),
    ownOnly: call.guard?.ownOnly,
  });
}

/** `adapters` in the body stands for weights, so it is part of what the request names. */
function withMix(resolved: Resolved, call: Call, scope: Scope): Resolved {
  const field = call.body.adapters;
  if (field == null) return resolved;
  if (resolved.type === "route") {
    throw new HubError(
      "unsupported_parameter",
      "Unsupported parameter: 'adapters' mixes adapters over a base model, and the request names a route.",
      { param: "adapters" },
    );
  }
  const { target } = resolved;
  return { type: "target", target: { ...target, mix: resolveMix(field, target, scope) } };
}

function defaultModelOf({ decision }: Plan, scope: Scope) {
  const route = decision.route && scope.snapshot.route(scope.projectId, decision.route);
  const target = route ? findTarget(route.defaultModel, scope) : undefined;
  return target && toPricedModel(target);
}

/**
 * Official SDKs tell after how many seconds they give up; working on after that helps nobody. Node's counts
 * until the answer begins, Python's until its next byte, so neither bounds how long a stream may be.
 */
function clientDeadlineMs(request: Request, exchange: Exchange): number | undefined {
  const { headers } = request;
  const seconds = Number(
    headers.get("x-stainless-timeout") ?? headers.get("x-stainless-read-timeout") ?? Number.NaN,
  );
  return seconds > 0 ? exchange.startedAtMs + seconds * 1000 : undefined;
}
