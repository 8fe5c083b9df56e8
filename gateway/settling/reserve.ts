/** Reserves the worst that a planned request may use, estimated in a way that costs the fast path nothing. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { GatewayLimits } from "../config.ts";
import type { Call } from "../dialects/dialect.ts";
import type { Accounts, Reservation, ReserveRequest } from "../metering/types.ts";
import { type Target, toPricedModel } from "../routing/resolve.ts";
import { countInputAtMost, inputTokensBound } from "../tokens/count.ts";

export type ReserveInput = Pick<
  ReserveRequest,
  "requestId" | "principal" | "batchId" | "endUser"
> & {
  call: Call;
  targets: readonly Target[];
  limits: GatewayLimits;
};

/**
 * The body's bytes bound its tokens, so no text need be counted as long as that fits. Only when a token
 * limit or a budget refuses the bound is the text counted, for a smaller bound and a second try.
 * @throws HubError as `Accounts.reserve` does
 */
export async function reserve(accounts: Accounts, input: ReserveInput): Promise<Reservation> {
  const { call, targets, limits, requestId, principal, batchId, endUser } = input;
  const bound = inputTokensBound(call, limits);
  const withTariffs = (
    use: Pick<ReserveRequest, "inputTokens" | "outputTokensMax">,
  ): ReserveRequest => ({
    requestId,
    principal,
    batchId,
    endUser,
    models: targets.map(toPricedModel),
    ...use,
    tariffs: call.tariffs?.(use),
  });
  const request = {
    inputTokens: most(targets, ({ model }) => Math.min(bound, model.contextLength ?? bound)),
    outputTokensMax:
      call.choices * most(targets, (target) => outputTokensMax(target, call, limits)),
  };
  try {
    return await accounts.reserve(withTariffs(request));
  } catch (refusal) {
    if (!wasTooMuch(refusal) || call.bodyBytes > limits.recountBytesMax) throw refusal;
    const counted = most(targets, ({ model }) => countInputAtMost(call, model.tokenizer, limits));
    if (counted >= request.inputTokens) throw refusal;
    return await accounts.reserve(withTariffs({ ...request, inputTokens: counted }));
  }
}

function outputTokensMax({ model }: Target, call: Call, limits: GatewayLimits): number {
  const asked = call.outputTokensMax ?? model.maxOutputTokens ?? limits.outputTokensDefault;
  return Math.min(asked, model.maxOutputTokens ?? asked, model.contextLength ?? asked);
}

/** Fewer tokens help against a token limit or a budget, and not against a limit on requests. */
function wasTooMuch(refusal: unknown): boolean {
  if (!(refusal instanceof HubError)) return false;
  return (
    refusal.code === "insufficient_quota" ||
    (refusal.code === "rate_limit_exceeded" && refusal.details?.kind === "tokens")
  );
}

function most(targets: readonly Target[], count: (target: Target) => number): number {
  return Math.max(...targets.map(count));
}
