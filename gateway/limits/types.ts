/** Rate limits: requests and tokens per minute, and requests at one time, for a key and its project. */
import type { RateLimits } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { stateOf } from "./bucket.ts";
import { rateLimitHeaders } from "./headers.ts";

export type LimitScope = { type: "project" | "key"; id: string; limits: RateLimits };

export type LimitRequest = {
  requestId: string;
  projectId: string;
  scopes: readonly LimitScope[];
  inputTokens: number;
  outputTokensMax: number;
};

/** What a bucket had left after the request, and when it will be full again. */
export type LimitState = { limit: number; remaining: number; resetMs: number };

export type LimitGrant = {
  /** The tightest bucket of each kind, for the `x-ratelimit-*` headers. */
  requests: LimitState | undefined;
  tokens: LimitState | undefined;
  /**
   * Ends the request: its place is free, and the tokens that were estimated become those it used. A
   * second call changes nothing.
   * @param tokens absent when unknown: the estimate stays
   */
  settle(tokens: number | undefined): Promise<void>;
  /** The request is not made after all, and nothing of it counts. */
  cancel(): Promise<void>;
};

export type RateLimiter = {
  /**
   * Takes from every bucket of every scope, or from none: a refused request uses nothing up.
   * @throws HubError `rate_limit_exceeded` naming scope, limit, used and the wait
   */
  acquire(request: LimitRequest): Promise<LimitGrant>;
};

/** One thing to be checked. `requests` and `tokens` are buckets that leak; `concurrent` counts. */
export type Check = {
  scope: Pick<LimitScope, "type" | "id">;
  kind: "requests" | "tokens" | "concurrent";
  limit: number;
  cost: number;
};

/**
 * The checks of a request. A token estimate larger than the whole limit is taken as the limit, so that
 * a generous `max_tokens` waits for an empty bucket instead of for ever.
 * @throws HubError `rate_limit_exceeded` without a wait when the input alone can never fit
 */
export function checksOf({ scopes, inputTokens, outputTokensMax }: LimitRequest): Check[] {
  const checks: Check[] = [];
  for (const scope of scopes) {
    const { requestsPerMinute, tokensPerMinute, concurrentRequests } = scope.limits;
    if (requestsPerMinute !== undefined)
      checks.push({ scope, kind: "requests", limit: requestsPerMinute, cost: 1 });
    if (tokensPerMinute !== undefined) {
      if (inputTokens > tokensPerMinute) throw tooLarge(scope, tokensPerMinute, inputTokens);
      const cost = Math.min(inputTokens + outputTokensMax, tokensPerMinute);
      checks.push({ scope, kind: "tokens", limit: tokensPerMinute, cost });
    }
    if (concurrentRequests !== undefined)
      checks.push({ scope, kind: "concurrent", limit: concurrentRequests, cost: 1 });
  }
  return checks;
}

/** @param used what the bucket held when the request was refused */
export function rateLimitExceeded(check: Check, used: number, retryAfterMs: number): HubError {
  const { scope, kind, limit, cost } = check;
  const seconds = (Math.ceil(retryAfterMs / 100) / 10).toString();
  const what = {
    requests: `requests per min (RPM): Limit ${limit}, Used ${Math.ceil(used)}, Requested ${cost}`,
    tokens: `tokens per min (TPM): Limit ${limit}, Used ${Math.ceil(used)}, Requested ${cost}`,
    concurrent: `concurrent requests: Limit ${limit}, Used ${used}, Requested ${cost}`,
  }[kind];
  return new HubError(
    "rate_limit_exceeded",
    `Rate limit reached for ${scope.type} '${scope.id}' on ${what}. Please try again in ${seconds}s.`,
    {
      retryAfterMs,
      headers: kind === "concurrent" ? {} : rateLimitHeaders({ [kind]: stateOf(used, limit) }),
      details: {
        scope: scope.type,
        id: scope.id,
        kind,
        limit,
        used: Math.ceil(used),
        requested: cost,
        retryAfterMs: Math.ceil(retryAfterMs),
      },
    },
  );
}

/** Of several buckets of one kind, the one that will refuse first. */
export function tightest(states: readonly LimitState[]): LimitState | undefined {
  let least: LimitState | undefined;
  for (const state of states) if (!least || state.remaining < least.remaining) least = state;
  return least;
}

/** Suggested while all places are taken: nobody knows when one comes free. */
export const concurrentRetryMs = 1_000;

function tooLarge(scope: LimitScope, limit: number, requested: number): HubError {
  return new HubError(
    "rate_limit_exceeded",
    `Request too large for ${scope.type} '${scope.id}' on tokens per min (TPM): Limit ${limit}, Requested ${requested}. ` +
      "The input must be shortened; waiting does not help.",
    { details: { scope: scope.type, id: scope.id, kind: "tokens", limit, requested } },
  );
}
