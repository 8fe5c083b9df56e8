/** Sends a request to the planned models in turn, until one has begun to answer. */
import { type ErrorCode, HubError, invariant } from "../../sdk/protocol/errors.ts";
import type { Target } from "../routing/resolve.ts";
import { type AskInput, askModel, type Tried, type Unanswered } from "./ask-model.ts";
import { mayFallBack } from "./failure.ts";
import { type Begun, letGo } from "./one-call.ts";
import type { Upstream } from "./upstream.ts";

/** `unanswered` are those of `tried` that gave no answer and may have to be paid for. */
type Calls = { tried: Tried[]; unanswered: Unanswered[] };

export type AttemptResult = Calls &
  (
    | Begun
    /**
     * `sent` is the last model that may have begun to work on the request. `clientGone`: the client left,
     * or its own deadline passed; the upstream is not to blame.
     */
    | { type: "failed"; error: HubError; clientGone: boolean; sent: Target | undefined }
  );

export type AttemptInput = Pick<
  AskInput,
  "call" | "context" | "client" | "inputTokens" | "now" | "random"
> & {
  targets: readonly Target[];
  /** Whom to ask next after a failure of that kind, in place of the targets that are left. */
  fallbackOn?: ReadonlyMap<ErrorCode, readonly Target[]> | undefined;
  /** When the client gives up on an answer that has not begun, on the clock of `now`. */
  clientDeadlineMs: number | undefined;
  upstream: (name: string) => Upstream | undefined;
  limits: AskInput["limits"] & { attemptsMax: number };
};

/**
 * Never throws for what an upstream does; the failure of the last attempt is the result then. What a filter stopped
 * is the answer where those that were asked instead have failed, because that is what became of it. An upstream's
 * total time runs from here, so that fallbacks do not make a request last longer than one upstream may.
 */
export async function attemptInOrder(input: AttemptInput): Promise<AttemptResult> {
  const { clientDeadlineMs, now, limits } = input;
  const beganAtMs = now();
  const tried: Tried[] = [];
  const unanswered: Unanswered[] = [];
  const calls = { tried, unanswered };
  const asked = new Set<string>();
  let error: HubError | undefined;
  let sent: Target | undefined;
  let withheld: Begun | undefined;
  let verdict: HubError | undefined;
  let left = [...input.targets];
  for (let target = left.shift(); target; target = left.shift()) {
    if (asked.has(target.name)) continue;
    if (asked.size >= limits.attemptsMax) break;
    asked.add(target.name);
    const { name, model } = target;
    const upstream = input.upstream(model.upstream);
    if (!upstream) {
      error = new HubError("upstream_unavailable", `There is no upstream '${model.upstream}'.`);
      tried.push({ model: name, upstream: model.upstream, ms: 0, error: error.code });
      continue;
    }
    const { totalMs } = upstream.provider.timeouts;
    const instead = (code: ErrorCode) => input.fallbackOn?.get(code);
    const isMore = asked.size < limits.attemptsMax;
    const made = await askModel({
      ...input,
      target,
      upstream,
      dropsFiltered: isMore && !!instead("content_filter")?.some(({ name }) => !asked.has(name)),
      times: () => ({
        totalMs: Math.max(0, totalMs - (now() - beganAtMs)),
        clientMs: clientDeadlineMs && Math.max(0, clientDeadlineMs - now()),
      }),
      deadlineMs: Math.min(beganAtMs + totalMs, clientDeadlineMs ?? Number.POSITIVE_INFINITY),
      onSent: () => {
        sent = target;
      },
      note: (one) => tried.push(one),
      noteUnanswered: (one) => unanswered.push(one),
    });
    if (made.type === "begun") {
      letGo(withheld);
      return { ...made.begun, ...calls };
    }
    error = made.error;
    if (made.clientGone || made.isFinal) {
      letGo(withheld);
      letGo(made.withheld);
      return { type: "failed", error, clientGone: made.clientGone, sent, ...calls };
    }
    if (error.code === "content_filter") verdict ??= error;
    if (withheld) letGo(made.withheld);
    else withheld = made.withheld;
    const named = instead(error.code);
    if (named) left = [...named];
    else if (!mayFallBack(error)) break;
    else if (error.code === "context_length_exceeded") left = left.filter(hasMoreRoomThan(target));
  }
  invariant(error, "a plan has at least one target");
  if (withheld) return { ...withheld, ...asAnswered(withheld, calls) };
  return { type: "failed", error: verdict ?? error, clientGone: false, sent, ...calls };
}

/** The calls, one of which has an answer after all. */
function asAnswered(withheld: Begun, { tried, unanswered }: Calls): Calls {
  const its = unanswered.find((one) => one.withheld === withheld)?.tried;
  return {
    tried: tried.map((one) => {
      if (one !== its) return one;
      const { mayCost: _, ...answered } = one;
      return answered;
    }),
    unanswered: unanswered.filter(({ tried }) => tried !== its),
  };
}

/** One that is known to have no more room would only refuse the same prompt again. */
function hasMoreRoomThan({ model }: Target): (other: Target) => boolean {
  const { contextLength: room } = model;
  return ({ model: { contextLength } }) =>
    room === undefined || contextLength === undefined || contextLength > room;
}
