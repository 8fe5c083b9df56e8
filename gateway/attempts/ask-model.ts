/** Asks one model: on the deployment that is chosen, once more where that may help, on two where the first is slow. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { UsageVector } from "../../sdk/protocol/usage.ts";
import type { ReadUsage } from "../ledger/usage.ts";
import type { Target } from "../routing/resolve.ts";
import { type Backoff, waitBeforeRetry, waitFor } from "./backoff.ts";
import type { Deployment } from "./deployment.ts";
import { mayAct } from "./effects.ts";
import { isCleanRefusal, whereToRetry } from "./failure.ts";
import {
  type Begun,
  beginCall,
  type CallInput,
  type CallOutcome,
  letGo,
  type OneCall,
} from "./one-call.ts";
import { stickyKeyOf } from "./sticky.ts";
import type { Upstream } from "./upstream.ts";
import type { WatchTimes } from "./watch.ts";

/** One call of one deployment, for the decision record and the log. Plain JSON. */
export type Tried = {
  model: string;
  upstream: string;
  /** Where the upstream has several. */
  deployment?: string;
  /** Until the whole answer or a stream's first word was here, or it was clear that none would come. */
  ms: number;
  /** Of these, until its first byte left, and until the head of an answer was here; of a call that lost neither is told. */
  sentMs?: number;
  headMs?: number;
  /** Of waiting before it, where it repeats an earlier one. */
  waitedMs?: number;
  /** `won` and `lost` are two calls that ran at once; both stand here only when the second was begun. */
  hedge?: "won" | "lost";
  error?: string;
  message?: string;
  /** It gave no answer, and the provider may charge for it all the same. */
  mayCost?: true;
  /** What such a call used, and whether that is a guess of ours. */
  usage?: UsageVector;
  estimated?: true;
};

/** A call that gave no answer, and for which the provider may charge all the same. */
export type Unanswered = {
  tried: Tried;
  target: Target;
  /** What the provider told, if it came to that. */
  told: ReadUsage | undefined;
  /** Whether it went on after it had told that. */
  isPartial: boolean;
  /** Its answer all the same, which a filter stopped: given where nobody has a better one. */
  withheld?: Begun;
};

export type AskInput = Omit<CallInput, "times"> & {
  upstream: Upstream;
  limits: CallInput["limits"] & Backoff & { retriesMax: number };
  times: () => WatchTimes;
  /** When an answer has to have begun, on the clock of `now`. */
  deadlineMs: number;
  /** As near as it can be told without counting. */
  inputTokens: number;
  now: () => number;
  random: () => number;
  note: (tried: Tried) => void;
  noteUnanswered: (unanswered: Unanswered) => void;
};

export type Asked =
  | { type: "begun"; begun: Begun }
  | {
      type: "failed";
      error: HubError;
      clientGone: boolean;
      /** What was begun may have had effects, so nobody else is to be asked either. */
      isFinal: boolean;
      /** An answer that a filter stopped; one of the calls that were noted as unanswered. */
      withheld?: Begun;
    };

export async function askModel(input: AskInput): Promise<Asked> {
  const { upstream, target, client, limits, now } = input;
  const model = target.model.upstreamModel;
  const stickyKey = stickyKeyOf(input.call, {
    stickyBy: upstream.deployments.length > 1 ? upstream.stickyBy : "nothing",
    projectId: input.context.projectId,
  });
  const acts = mayAct(input.call);
  const failed = new Set<Deployment>();
  let last: Extract<Round, { type: "failed" }> | undefined;
  let next = upstream.choose({ model, stickyKey, except: failed });
  let waitedMs: number | undefined;
  for (let retry = 0; ; retry++) {
    const turn = next?.enter(model);
    if (!turn) {
      const error = last?.error ?? unavailable(upstream);
      if (!last) input.note({ ...nameOf(input), ms: 0, ...toldOf(error) });
      return { type: "failed", error, clientGone: false, isFinal: false };
    }
    if (retry === 0) upstream.asked(input.inputTokens);
    const round = await callOrHedge(input, beginCall(turn, callInput(input)), { waitedMs, acts });
    if (round.type === "begun") return round;
    last = round;
    for (const one of round.deployments) failed.add(one);
    const { error, ended } = round;
    const clientGone = ended === "client_gone" || ended === "client_deadline";
    const isFinal = acts && round.sent && !isCleanRefusal(error);
    const { withheld } = round;
    const over: Asked = {
      type: "failed",
      error,
      clientGone,
      isFinal,
      ...(withheld && { withheld }),
    };
    if (clientGone || isFinal || retry >= limits.retriesMax) return over;

    const where = whereToRetry(error, round.answered);
    const other = upstream.choose({ model, stickyKey, except: failed });
    const isFresh = other !== undefined && !other.isParked(model);
    if (where === "nowhere" || (where === "elsewhere" && !isFresh)) return over;
    next = isFresh ? other : upstream.choose({ model, stickyKey, except: new Set() });
    waitedMs = isFresh
      ? 0
      : waitBeforeRetry(error, retry, { backoff: limits, random: input.random });
    if (next === undefined || waitedMs === undefined) return over;
    if (now() + waitedMs >= input.deadlineMs || !upstream.retries.spend(1)) return over;
    await waitFor(waitedMs, client);
    if (client.aborted) return { ...over, error: left(), clientGone: true };
  }
}

type Round =
  | { type: "begun"; begun: Begun }
  | (Extract<CallOutcome, { type: "failed" }> & { deployments: Deployment[] });

type RoundOptions = { waitedMs: number | undefined; acts: boolean };

/** The first to answer wins, and the other is ended at once. */
async function callOrHedge(
  input: AskInput,
  first: OneCall,
  { waitedMs, acts }: RoundOptions,
): Promise<Round> {
  const { upstream, target, call, now } = input;
  const kind = `${call.stream ? "stream" : "whole"}:${target.model.upstreamModel}`;
  const startedAtMs = now();
  const note = (
    one: OneCall,
    made: CallOutcome | undefined,
    since: number,
    hedge?: Tried["hedge"],
  ) => {
    const isAnswer = made?.type === "begun" && hedge !== "lost";
    const unanswered = isAnswer
      ? false
      : made?.type === "failed"
        ? mayCost(made, one !== first)
        : one.wasSent();
    const tried: Tried = {
      ...nameOf(input, one.turn.deployment),
      ms: Math.round(now() - since),
      ...((isAnswer || made?.type === "failed") && made.times),
      ...(waitedMs && { waitedMs: Math.round(waitedMs) }),
      ...(made?.type === "failed" ? toldOf(made.error) : !isAnswer && { error: "hedge_lost" }),
      ...(unanswered && { mayCost: true as const }),
      ...(hedge && { hedge }),
    };
    input.note(tried);
    if (unanswered) input.noteUnanswered({ tried, target, ...toldBy(made) });
  };
  const alone = (made: CallOutcome): Round => {
    note(first, made, startedAtMs);
    if (made.type === "failed") return { ...made, deployments: [first.turn.deployment] };
    upstream.observeFirstByte(kind, now() - startedAtMs);
    return made;
  };

  const afterMs = acts ? undefined : upstream.hedgeAfterMs(kind);
  if (afterMs === undefined) return alone(await first.outcome);
  const early = await within(first.outcome, afterMs);
  if (early) return alone(early);
  const second = beginHedge(input, first);
  if (!second) return alone(await first.outcome);

  const secondAtMs = now();
  const racers = [
    { one: first, since: startedAtMs },
    { one: second, since: secondAtMs },
  ];
  const made = racers.map(({ one }) => one.outcome);
  const winner = await firstBegun(made);
  if (winner === undefined) {
    const outcomes = await Promise.all(made);
    for (const [index, { one, since }] of racers.entries()) {
      const outcome = outcomes[index];
      if (outcome) note(one, outcome, since);
    }
    const deployments = racers.map(({ one }) => one.turn.deployment);
    const failures = outcomes as Extract<CallOutcome, { type: "failed" }>[];
    // An answer that a filter stopped says more than a failure.
    const chosen = failures.find(({ withheld }) => withheld) ?? failures[0];
    for (const other of failures) if (other !== chosen) letGo(other.withheld);
    return { ...(chosen as (typeof failures)[number]), deployments };
  }
  for (const [index, { one, since }] of racers.entries()) {
    if (index === winner) continue;
    const made = await within(one.outcome, 0);
    if (made?.type !== "failed") one.lose();
    else letGo(made.withheld);
    note(one, made, since, "lost");
  }
  const { one, since } = racers[winner] as (typeof racers)[number];
  const outcome = (await one.outcome) as Extract<CallOutcome, { type: "begun" }>;
  upstream.observeFirstByte(kind, now() - since);
  note(one, outcome, since, "won");
  return outcome;
}

/** A second call where another deployment is well and there is something left for it. */
function beginHedge(input: AskInput, first: OneCall): OneCall | undefined {
  const { upstream, target, client, inputTokens } = input;
  const model = target.model.upstreamModel;
  const except = new Set([first.turn.deployment]);
  const other = upstream.choose({ model, stickyKey: undefined, except });
  if (client.aborted || !other || other.isParked(model) || other.state !== "closed") return;
  if (!upstream.spendHedge(inputTokens)) return undefined;
  const turn = other.enter(model);
  return turn && beginCall(turn, callInput(input));
}

function callInput({ times, ...input }: AskInput): CallInput {
  // What its own tools did was done for this answer.
  const dropsFiltered = input.dropsFiltered && !mayAct(input.call);
  return { ...input, dropsFiltered, times: times() };
}

/** Index of the first that has begun an answer, `undefined` when all have failed. */
function firstBegun(made: readonly Promise<CallOutcome>[]): Promise<number | undefined> {
  return new Promise((resolve) => {
    let failures = 0;
    for (const [index, outcome] of made.entries()) {
      void outcome.then(({ type }) => {
        if (type === "begun") resolve(index);
        else if (++failures === made.length) resolve(undefined);
      });
    }
  });
}

/** @returns `undefined` when the time is up first */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * What was refused cost nothing; what was cut off, or too slow, was worked on. A client that leaves pays for one call
 * itself, so only the second of two is left to be told.
 */
function mayCost(made: Extract<CallOutcome, { type: "failed" }>, isSecond: boolean): boolean {
  if (!made.sent) return false;
  const { ended } = made;
  if (ended === "client_gone" || ended === "client_deadline") return isSecond;
  return made.answered || ended === "timed_out";
}

/** What the provider told of a call whose answer nobody reads. */
function toldBy(
  made: CallOutcome | undefined,
): Pick<Unanswered, "told" | "isPartial" | "withheld"> {
  if (made?.type === "failed") {
    const { told, withheld } = made;
    return { told, isPartial: false, ...(withheld && { withheld }) };
  }
  if (made === undefined) return { told: undefined, isPartial: false };
  const { begun } = made;
  return begun.type === "answer"
    ? { told: begun.answer.usage, isPartial: false }
    : { told: begun.stream.reader.usage, isPartial: true };
}

function nameOf({ target, upstream }: { target: Target; upstream: Upstream }, on?: Deployment) {
  return {
    model: target.name,
    upstream: upstream.name,
    ...(on && upstream.deployments.length > 1 && { deployment: on.name }),
  };
}

function toldOf(error: HubError): { error: string; message: string } {
  return { error: error.code, message: error.unquoted };
}

function unavailable({
  name,
  retryAfterMs,
}: {
  name: string;
  retryAfterMs: () => number | undefined;
}): HubError {
  return new HubError(
    "upstream_unavailable",
    `The upstream '${name}' is failing and is not being called for a moment.`,
    { retryAfterMs: retryAfterMs() },
  );
}

function left(): HubError {
  return new HubError("request_cancelled", "The client closed the request.");
}
