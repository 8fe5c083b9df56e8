/** Rate limits: requests and tokens per window, and requests at one time, for a key and its project. */
import { countedBy, type LimitRule, type RateLimits, rulesOf } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Rate, stateOf } from "./bucket.ts";
import { rateLimitHeaders } from "./headers.ts";

export type LimitScope = { type: "project" | "key"; id: string; limits: RateLimits };

export type LimitRequest = {
  requestId: string;
  projectId: string;
  scopes: readonly LimitScope[];
  /** The model that is asked first. */
  model: string;
  /** Whom the request is for, as its sender says; rules for each user do not count it where nobody is named. */
  endUser: string | undefined;
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
  kind: LimitRule["kind"];
  /** Names the bucket within its scope. */
  bucket: string;
  /** Whose the bucket is, where each model or end user has its own. */
  of: string;
  rate: Rate;
  cost: number;
};

/**
 * The checks of a request. A token estimate larger than what a bucket holds is taken as that, so that
 * a generous `max_tokens` waits for an empty bucket instead of for ever.
 * @throws HubError `rate_limit_exceeded` without a wait when the input alone can never fit
 */
export function checksOf(request: LimitRequest): Check[] {
  const checks: Check[] = [];
  for (const scope of request.scopes) {
    for (const rule of compile(scope.limits)) {
      const check = checkOf(rule, scope, request);
      if (check) checks.push(check);
    }
  }
  return checks;
}

/** @returns nothing where the rule does not count the request */
function checkOf(
  { rule, counted, rate }: CompiledRule,
  { type, id }: LimitScope,
  { model, endUser, inputTokens, outputTokensMax }: LimitRequest,
): Check | undefined {
  if (rule.models && !isAmong(rule.models, model)) return undefined;
  if (rule.each.includes("user") && endUser === undefined) return undefined;
  const { kind } = rule;
  const check: Check = { scope: { type, id }, kind, bucket: counted, of: "", rate, cost: 1 };
  if (rule.each.length > 0) {
    const owners = { model, user: endUser };
    check.of = rule.each.map((name) => ` for ${name} '${owners[name]}'`).join("");
    // As JSON, so that no name can be taken for another and a lone surrogate has a form.
    check.bucket += rule.each.map((name) => `:${name}=${JSON.stringify(owners[name])}`).join("");
  }
  if (kind !== "tokens") return check;
  if (inputTokens > rate.burst) throw tooLarge(check, inputTokens);
  check.cost = Math.min(inputTokens + outputTokensMax, rate.burst);
  return check;
}

type CompiledRule = { rule: LimitRule; counted: string; rate: Rate };

/** Policy never changes in place, so what follows from limits is kept with them. */
function compile(limits: RateLimits): readonly CompiledRule[] {
  let made = compiled.get(limits);
  if (made === undefined) {
    made = rulesOf(limits).map((rule) => {
      const { limit, burst = limit, windowSeconds } = rule;
      const rate = { limit, burst, windowMs: windowSeconds * 1000 };
      return { rule, counted: countedBy(rule), rate };
    });
    compiled.set(limits, made);
  }
  return made;
}

const compiled = new WeakMap<RateLimits, readonly CompiledRule[]>();

/** A base model's name stands for its adapters as well. */
function isAmong(models: readonly string[], model: string): boolean {
  return models.includes(model) || models.includes(model.split(":", 1)[0] ?? model);
}

/** @param used what the bucket held when the request was refused */
export function rateLimitExceeded(check: Check, used: number, retryAfterMs: number): HubError {
  const { scope, kind, rate, cost, of } = check;
  const seconds = (Math.ceil(retryAfterMs / 100) / 10).toString();
  const numbers = `Limit ${rate.limit}, Used ${Math.ceil(used)}, Requested ${cost}`;
  return new HubError(
    "rate_limit_exceeded",
    `Rate limit reached for ${scope.type} '${scope.id}'${of} on ${describe(check)}: ${numbers}. Please try again in ${seconds}s.`,
    {
      retryAfterMs,
      headers: kind === "concurrent" ? {} : rateLimitHeaders({ [kind]: stateOf(used, rate) }),
      details: {
        ...factsOf(check),
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

function tooLarge(check: Check, requested: number): HubError {
  const { scope, of, rate } = check;
  return new HubError(
    "rate_limit_exceeded",
    `Request too large for ${scope.type} '${scope.id}'${of} on ${describe(check)}: Limit ${rate.burst}, Requested ${requested}. ` +
      "The input must be shortened; waiting does not help.",
    { details: { ...factsOf(check), requested } },
  );
}

function factsOf({ scope, kind, rate, bucket }: Check): Record<string, unknown> {
  const { limit, windowMs } = rate;
  const window = kind === "concurrent" ? {} : { windowSeconds: windowMs / 1000 };
  return { scope: scope.type, id: scope.id, kind, limit, ...window, rule: bucket };
}

/** As OpenAI says it, where it has the words. */
function describe({ kind, rate }: Check): string {
  if (kind === "concurrent") return "concurrent requests";
  const short = shortNames[rate.windowMs];
  if (!short) return `${kind} per ${rate.windowMs / 1000} s`;
  return `${kind} per ${short.word} (${kind === "requests" ? "R" : "T"}P${short.letter})`;
}

const shortNames: Readonly<Record<number, { word: string; letter: string }>> = {
  60000: { word: "min", letter: "M" },
  3600000: { word: "hour", letter: "H" },
  86400000: { word: "day", letter: "D" },
};
