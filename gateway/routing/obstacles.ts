/** The hard filters of a plan: what speaks against sending a request to a model at all. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { isPriced, noPrice } from "../ledger/price-book.ts";
import type { PlanInput, Rejection } from "./plan.ts";
import { type Target, toPricedModel } from "./resolve.ts";

export type Obstacle = { reason: Rejection; error: HubError };

export type ObstacleInput = Pick<
  PlanInput,
  "scope" | "upstream" | "inputTokens" | "outputTokensMax" | "tariffs" | "nowMs" | "ownOnly"
> & {
  /** Whether the client named this very model. */
  named: boolean;
};

/** The first thing that no low price could make up for; `undefined` when there is none. */
export function findObstacle(target: Target, input: ObstacleInput): Obstacle | undefined {
  const { model, adapter, mix } = target;
  const upstream = input.upstream(model.upstream);
  const notConfigured = upstream
    ? upstream.notConfigured
    : `this gateway has no upstream '${model.upstream}'`;
  if (!upstream || notConfigured !== undefined) {
    return {
      reason: "upstream_not_configured",
      error: new HubError(
        "upstream_unavailable",
        `'${target.name}' cannot be served: ${notConfigured}.`,
      ),
    };
  }
  if ((adapter || mix) && !upstream.servesAdapters) {
    return {
      reason: "adapters_not_served",
      error: new HubError(
        "unsupported_model",
        `'${target.name}' cannot be served: the upstream '${model.upstream}' serves no adapters.`,
        { param: "model" },
      ),
    };
  }
  if (input.ownOnly && !upstream.own) {
    return {
      reason: "not_own_hardware",
      error: new HubError(
        "guardrail_blocked",
        `A guardrail of this project keeps this request on hardware of its own, and '${target.name}' runs elsewhere.`,
        { param: "model" },
      ),
    };
  }
  if (adapter && model.base && adapter.baseDigest !== model.base.digest) {
    return {
      reason: "base_changed",
      error: new HubError(
        "unsupported_model",
        `'${target.name}' was made for other weights of '${model.id}' than are served now. Push it again for these.`,
        { param: "model" },
      ),
    };
  }
  const unpriced = priceObstacle(target, input);
  if (unpriced) return { reason: "no_price", error: unpriced };
  const tooLong = contextObstacle(target, input);
  if (tooLong) return { reason: "context_too_long", error: tooLong };
  if (upstream.retryAfterMs !== undefined) {
    return {
      reason: "upstream_unhealthy",
      error: new HubError(
        "upstream_unavailable",
        `The upstream of '${target.name}' is failing and is not being called for a moment.`,
        { retryAfterMs: upstream.retryAfterMs },
      ),
    };
  }
  return undefined;
}

/** A project that refuses what has no price is never sent to where its spending would be unknown. */
function priceObstacle(
  target: Target,
  { scope, nowMs, tariffs }: ObstacleInput,
): HubError | undefined {
  const { snapshot, projectId } = scope;
  if (snapshot.project(projectId)?.unpriced !== "refuse") return undefined;
  const prices = snapshot.price.bind(snapshot);
  return isPriced(toPricedModel(target), prices, nowMs, tariffs)
    ? undefined
    : noPrice([target.name], tariffs);
}

/** A model that the client named itself is refused only on an exact count; else its upstream decides. */
function contextObstacle(target: Target, input: ObstacleInput): HubError | undefined {
  const length = target.model.contextLength;
  if (length === undefined) return undefined;
  const { tokens, exact } = input.inputTokens(target);
  const wanted = tokens + (input.outputTokensMax ?? 0);
  if (wanted <= length || (input.named && !exact)) return undefined;
  return new HubError(
    "context_length_exceeded",
    `This model's maximum context length is ${length} tokens. However, your messages resulted in ${exact ? "" : "about "}${tokens} tokens${input.outputTokensMax === undefined ? "" : ` and ${input.outputTokensMax} were asked for the completion`}. Please reduce the length of the messages or completion.`,
    { param: "messages" },
  );
}
