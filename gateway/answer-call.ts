/** A request's way through the gateway, in order, whatever dialect its client speaks. */
import { HubError } from "../sdk/protocol/errors.ts";
import { tagsHeader, taskHeader } from "../sdk/protocol/http.ts";
import type { AppParts } from "./app.ts";
import { type AttemptResult, attemptInOrder } from "./attempts/attempt.ts";
import { relay } from "./attempts/relay.ts";
import type { Call } from "./dialects/dialect.ts";
import { answerHeaders, refusal, streamedAnswer, wholeAnswer } from "./http/answers.ts";
import { credentialOf } from "./http/credential.ts";
import { baseHeaders, type Exchange } from "./http/exchange.ts";
import { readTags } from "./http/tags.ts";
import { classify } from "./routing/classify.ts";
import { makePlan, type Plan } from "./routing/plan.ts";
import {
  findTarget,
  type Resolved,
  resolve,
  resolveMix,
  type Scope,
  toPricedModel,
} from "./routing/resolve.ts";
import { reserve } from "./settling/reserve.ts";
import { Settling } from "./settling/settle.ts";
import { countInput, guessInput, inputTokensBound } from "./tokens/count.ts";

/** Reads the body, as the client's dialect has it, for the project that asks. */
export type ReadCall = (projectId: string) => Promise<Call>;

/** Before `reserve` nothing is held; from there on `settling` ends the request exactly once. */
export async function answerCall(
  request: Request,
  { exchange, read }: { exchange: Exchange; read: ReadCall },
  parts: AppParts,
): Promise<Response> {
  const { accounts, limits, now } = parts;

  // identify
  const principal = parts.identity.identifyProject(credentialOf(request));
  const scope: Scope = { snapshot: parts.snapshot(), projectId: principal.project.id };
  // parse
  const call = await read(scope.projectId);
  const { dialect } = call;
  const tags = readTags(request.headers.get(tagsHeader));
  // resolve, classify, plan
  const plan = planCall(call, request.headers.get(taskHeader), scope, parts);
  const defaultModel = defaultModelOf(plan, scope);
  // reserve
  const { requestId } = exchange;
  const reservation = await reserve(accounts, {
    requestId,
    principal,
    call,
    targets: plan.targets,
    limits,
  });
  const settling = new Settling(
    { exchange, principal, call, plan, defaultModel, tags, reservation },
    { ...parts, imageTokens: limits.imageTokens },
  );
  // attempt
  const result = await attemptInOrder({
    targets: plan.targets,
    call,
    context: {
      requestId,
      projectId: principal.project.id,
      startedAtMs: exchange.startedAtMs,
      nowMs: now,
    },
    client: request.signal,
    clientDeadlineMs: clientDeadlineMs(request, exchange),
    upstream: (name) => parts.upstreams.get(name),
    limits,
    now,
  });
  settling.attempted(result);
  // settle, record, answer
  const headersOf = (answered: Exclude<AttemptResult, { type: "failed" }>) => ({
    ...baseHeaders(exchange, now()),
    ...reservation.headers,
    ...answerHeaders(answered, plan.decision),
    ...(result.tried.length > 1 && { "x-switchyard-attempts": String(result.tried.length) }),
  });
  switch (result.type) {
    case "answer": {
      const { answer } = result;
      const { cost } = await settling.answered(result);
      const isKept = await keep(call, () => answer.whole, parts);
      const { bytes } = isKept ? answer : (answer.write?.() ?? answer);
      return wholeAnswer(bytes, headersOf(result), cost);
    }
    case "stream": {
      const ended = parts.inFlight.open();
      const body = relay(result.stream, {
        keepAliveMs: limits.keepAliveMs,
        keepAlive: dialect.keepAlive,
        onEnd: async (end) => {
          try {
            await settling.relayed(result, end);
            if (end.type === "done") await keep(call, () => result.stream.reader.whole?.(), parts);
          } finally {
            ended();
          }
        },
      });
      return streamedAnswer(body, dialect, headersOf(result));
    }
    case "failed": {
      await settling.failed(result);
      const { cause } = result.error;
      if (result.error.code === "internal_error" && cause instanceof Error) {
        parts.logger.error({ requestId, error: cause.stack }, "failed");
      }
      const headers = { ...baseHeaders(exchange, now()), ...reservation.headers };
      return refusal(result.error, { dialect, requestId }, headers);
    }
    default:
      return result satisfies never;
  }
}

/** @returns false when the answer was to be kept and was not, of which the call knows to tell */
async function keep(call: Call, whole: () => unknown, { logger }: AppParts): Promise<boolean> {
  try {
    await call.keep?.(whole());
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
      return { notConfigured, servesAdapters, retryAfterMs: upstream.breaker.retryAfterMs() };
    },
    inputTokens({ model }) {
      const bound = inputTokensBound(call, limits.imageTokens);
      const fits = bound + (call.outputTokensMax ?? 0) <= (model.contextLength ?? bound);
      // Counting holds up everyone else, and takes as long as the text is.
      const isLong = call.bodyBytes > limits.countBytesMax;
      if (fits || isLong || model.tokenizer === undefined) {
        return { tokens: guessInput(call, limits.imageTokens), exact: false };
      }
      return { tokens: countInput(call, model.tokenizer, limits.imageTokens), exact: true };
    },
    outputTokensMax: call.outputTokensMax,
    attemptsMax: limits.attemptsMax,
    nowMs: now(),
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
