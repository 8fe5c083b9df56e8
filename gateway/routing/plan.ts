/** Decides where a request goes: candidates, hard filters, quality floor, cost, then the order of attempts. */
import type { Measurement, TaskPolicy } from "../../sdk/protocol/catalog.ts";
import { type ErrorCode, HubError } from "../../sdk/protocol/errors.ts";
import { formatUsd, type PicoUsd } from "../../sdk/protocol/money.ts";
import type { Tariff } from "../ledger/price-book.ts";
import type { Classified } from "./classify.ts";
import { findEvidence } from "./evidence.ts";
import { expectedCost } from "./expected-cost.ts";
import { findObstacle } from "./obstacles.ts";
import { findTarget, type Resolved, type Scope, type Target } from "./resolve.ts";

/** Why a candidate was not taken, as a word for programs. */
export type Rejection =
  | "unknown"
  | "upstream_not_configured"
  | "upstream_unhealthy"
  | "adapters_not_served"
  | "not_own_hardware"
  | "base_changed"
  | "context_too_long"
  | "no_price"
  | "not_measured"
  | "below_quality_floor";

/** One candidate, with every number that spoke for or against it. Plain JSON. */
export type Considered = {
  model: string;
  role: "model" | "candidate" | "default" | "fallback";
  verdict: "planned" | "rejected";
  reason?: Rejection;
  explanation: string;
  evidence?: {
    score: number;
    lower: number;
    upper: number;
    n: number;
    measuredAt: string;
    meanInputTokens: number;
    meanOutputTokens: number;
  };
  expectedCostUsd?: string;
};

/** The plan as `routes explain` shows it and the settlement keeps it. Plain JSON. */
export type Decision = {
  requested: string;
  route?: string;
  task?: string;
  classifiedBy?: Classified["by"];
  qualityFloor?: number;
  snapshotVersion: number;
  considered: Considered[];
  /** Models in the order in which they are tried. */
  attempts: string[];
  /** By the code of a failure: who is tried after it, in place of those that are left. */
  fallbackOn?: Record<string, string[]>;
  /** Models that a budget refused, where the route has others for that. */
  overBudget?: string[];
};

export type Plan = {
  targets: Target[];
  fallbackOn: ReadonlyMap<ErrorCode, readonly Target[]>;
  decision: Decision;
};

/** What a plan asks about an upstream; kept small, so that a plan can be made without any. */
export type UpstreamState = {
  /** Why it cannot be called at all, such as a missing credential; `undefined` when it can. */
  notConfigured: string | undefined;
  servesAdapters: boolean;
  /** Whether it runs on hardware of one's own. */
  own?: boolean;
  /** While its breaker is open: when it may be tried again. */
  retryAfterMs: number | undefined;
};

export type PlanInput = {
  requested: string;
  resolved: Resolved;
  classified: Classified | undefined;
  scope: Scope;
  upstream: (name: string) => UpstreamState | undefined;
  /** Tokens of the input for a model; `exact` when counted by its own tokenizer. */
  inputTokens: (target: Target) => { tokens: number; exact: boolean };
  /** The client's own bound of the output. */
  outputTokensMax: number | undefined;
  /** How the request may be billed, where that is not as text. */
  tariffs?: readonly Tariff[] | undefined;
  attemptsMax: number;
  nowMs: number;
  /** A guardrail lets the request go to hardware of one's own alone. */
  ownOnly?: boolean | undefined;
};

/**
 * A model named by the client is the only candidate. A route's task offers its candidates that are good
 * enough, cheapest first; then come the route's default and its fallbacks.
 * @throws HubError when nothing may be tried: the reason of the only, or last, candidate
 */
export function makePlan(input: PlanInput): Plan {
  const { resolved, classified, scope } = input;
  const policy =
    resolved.type === "route"
      ? resolved.route.tasks.find(({ task }) => task === classified?.task)
      : undefined;
  const ranked =
    resolved.type === "route"
      ? [
          ...rankCandidates(policy, input),
          judge(resolved.route.defaultModel, "default", input),
          ...resolved.route.fallbacks.map((model) => judge(model, "fallback", input)),
        ]
      : [judgeTarget(resolved.target, "model", input)];

  const targets = distinct(ranked.flatMap(({ target }) => target ?? [])).slice(
    0,
    input.attemptsMax,
  );
  const fallbackOn = planFallbacks(input);
  const decision: Decision = {
    requested: input.requested,
    ...(resolved.type === "route" && { route: resolved.route.name }),
    ...(classified && { task: classified.task, classifiedBy: classified.by }),
    ...(policy && { qualityFloor: policy.qualityFloor }),
    snapshotVersion: scope.snapshot.version,
    considered: ranked.map(({ considered }) => considered).filter(mayBeNamed(resolved)),
    attempts: targets.map(({ name }) => name),
    ...(fallbackOn.size > 0 && {
      fallbackOn: Object.fromEntries(
        [...fallbackOn].map(([code, models]) => [code, namesOf(models)]),
      ),
    }),
  };
  if (targets.length === 0) throw nothingToTry(ranked, decision);
  return { targets, fallbackOn, decision };
}

/** The plan for those whom the route keeps for an empty budget; `undefined` where it has none. */
export function withinBudget({ targets, fallbackOn, decision }: Plan): Plan | undefined {
  const cheaper = fallbackOn.get("insufficient_quota") ?? [];
  if (cheaper.length === 0) return undefined;
  return {
    targets: [...cheaper],
    fallbackOn: new Map(),
    decision: { ...decision, attempts: namesOf(cheaper), overBudget: namesOf(targets) },
  };
}

function planFallbacks(input: PlanInput): Map<ErrorCode, Target[]> {
  const { resolved } = input;
  const named = resolved.type === "route" ? Object.entries(resolved.route.fallbackOn ?? {}) : [];
  return new Map(
    named.map(([code, models]) => {
      const judged = (models ?? []).map((model) => judge(model, "fallback", input));
      return [code as ErrorCode, distinct(judged.flatMap(({ target }) => target ?? []))];
    }),
  );
}

function namesOf(targets: readonly Target[]): string[] {
  return targets.map(({ name }) => name);
}

/** A route for all projects may list an adapter that is another's: to this one it does not exist. */
function mayBeNamed(resolved: Resolved): (considered: Considered) => boolean {
  const isOwn = resolved.type === "target" || resolved.route.projectId !== undefined;
  return ({ model, reason }) => isOwn || reason !== "unknown" || !model.includes(":");
}

type Judged = {
  considered: Considered;
  /** Present when nothing speaks against it. */
  target?: Target;
  error?: HubError;
  costs?: PicoUsd | undefined;
  latencyMs?: number;
};

/** Those that are good enough by price, the cheapest first, then the rest with what was wrong. */
function rankCandidates(policy: TaskPolicy | undefined, input: PlanInput): Judged[] {
  if (!policy) return [];
  const judged = policy.candidates.map((model) =>
    applyFloor(judge(model, "candidate", input), policy, input),
  );
  const planned = judged.filter(({ target }) => target !== undefined).sort(byCost);
  return [...planned, ...judged.filter(({ target }) => target === undefined)];
}

/** An unknown cost sorts last; equal costs by measured latency. */
function byCost(a: Judged, b: Judged): number {
  if (a.costs !== b.costs) {
    if (a.costs === undefined) return 1;
    if (b.costs === undefined) return -1;
    return a.costs < b.costs ? -1 : 1;
  }
  return (a.latencyMs ?? 0) - (b.latencyMs ?? 0);
}

function judge(name: string, role: Considered["role"], input: PlanInput): Judged {
  const target = findTarget(name, input.scope);
  if (target) return judgeTarget(target, role, input);
  const explanation = `'${name}' does not exist, or its project does not share it`;
  return {
    considered: { model: name, role, verdict: "rejected", reason: "unknown", explanation },
    error: new HubError("model_not_found", `${explanation}.`, { param: "model" }),
  };
}

function judgeTarget(target: Target, role: Considered["role"], input: PlanInput): Judged {
  const obstacle = findObstacle(target, { ...input, named: role === "model" });
  if (!obstacle) {
    const explanation = explanations[role];
    return { considered: { model: target.name, role, verdict: "planned", explanation }, target };
  }
  const { reason, error } = obstacle;
  return {
    considered: {
      model: target.name,
      role,
      verdict: "rejected",
      reason,
      explanation: error.message,
    },
    error,
  };
}

function applyFloor(judged: Judged, policy: TaskPolicy, input: PlanInput): Judged {
  const { target, considered } = judged;
  if (!target) return judged;
  const evidence = findEvidence(policy.task, target, input.scope);
  if (!evidence) {
    return reject(considered, "not_measured", `no eval of '${policy.task}' measured this version`);
  }
  const costs = expectedCost(target, evidence, {
    snapshot: input.scope.snapshot,
    nowMs: input.nowMs,
  });
  const measured: Considered = {
    ...considered,
    evidence: showEvidence(evidence),
    ...(costs !== undefined && { expectedCostUsd: formatUsd(costs) }),
  };
  if (evidence.lower < policy.qualityFloor) {
    return reject(
      measured,
      "below_quality_floor",
      `its lower bound ${percent(evidence.lower)} is below the floor ${percent(policy.qualityFloor)}`,
    );
  }
  const explanation = `its lower bound ${percent(evidence.lower)} clears the floor ${percent(policy.qualityFloor)}; ${
    costs === undefined ? "its price is unknown" : `expected to cost $${formatUsd(costs)}`
  }`;
  return {
    considered: { ...measured, explanation },
    target,
    costs,
    latencyMs: evidence.latencyP50Ms,
  };
}

/** Rounded down, so that what lies below a floor never reads as if it reached it. */
function percent(share: number): string {
  return `${Math.floor(share * 1e4 + 1e-9) / 100} %`;
}

function reject(considered: Considered, reason: Rejection, explanation: string): Judged {
  return { considered: { ...considered, verdict: "rejected", reason, explanation } };
}

function showEvidence(it: Measurement): NonNullable<Considered["evidence"]> {
  const { score, lower, upper, n, measuredAt, meanInputTokens, meanOutputTokens } = it;
  return { score, lower, upper, n, measuredAt, meanInputTokens, meanOutputTokens };
}

function distinct(targets: readonly Target[]): Target[] {
  return [...new Map(targets.map((target) => [target.name, target])).values()];
}

function nothingToTry(ranked: readonly Judged[], decision: Decision): HubError {
  const cause = ranked.findLast(({ error }) => error !== undefined)?.error;
  const [first] = ranked;
  const oneReason = ranked.every(
    ({ considered }) => considered.reason === first?.considered.reason,
  );
  const isClients = cause !== undefined && cause.status < 500 && cause.code !== "model_not_found";
  if (cause && ((oneReason && isClients) || !decision.route)) return cause;
  const reasons = decision.considered.map(({ model, explanation }) => `${model}: ${explanation}`);
  return new HubError(
    "upstream_unavailable",
    `The route '${decision.route}' has no model that can take this request now. ${reasons.join(" ")}`,
    { cause, retryAfterMs: cause?.retryAfterMs },
  );
}

const explanations: Record<Considered["role"], string> = {
  model: "the request names it",
  candidate: "may take the task",
  default: "the route's default",
  fallback: "the route's fallback",
};
