/** One call of one deployment, up to a whole answer or to a stream's first word. */
import { asHubError, HubError } from "../../sdk/protocol/errors.ts";
import type { Heard } from "../content-log/hearing.ts";
import type { Call } from "../dialects/dialect.ts";
import type { ReadUsage } from "../ledger/usage.ts";
import { rounded, type Timings } from "../observing/timings.ts";
import type { CallContext, Provider, ProviderAnswer } from "../providers/provider.ts";
import type { TransportResponse } from "../providers/transport.ts";
import type { Target } from "../routing/resolve.ts";
import type { AnswerStream, StreamStep } from "./answer-stream.ts";
import { type Conversation, openConversation } from "./conversation.ts";
import type { Turn } from "./deployment.ts";
import { mayAct } from "./effects.ts";
import { isConnectionReset, toUpstreamError } from "./failure.ts";
import { type FilteredAnswer, FilterWatch, filteredIn } from "./filtered.ts";
import { hold, type StreamHold } from "./stream-hold.ts";
import { type Ended, Watch, type WatchTimes } from "./watch.ts";

/** A stream whose first word is here: nothing has been said to the client yet. */
export type OpenStream = {
  provider: Provider;
  turn: Turn;
  response: TransportResponse;
  reader: AnswerStream;
  watch: Watch;
  first: StreamStep;
};

type Answered = {
  target: Target;
  adapterDigest: string | undefined;
  dropped: readonly string[];
  /** What is heard of it for the log of contents; of a stream it grows. */
  heard?: (() => Heard) | undefined;
};

export type Begun =
  | ({ type: "answer"; answer: ProviderAnswer } & Answered)
  | ({ type: "stream"; stream: OpenStream } & Answered);

/** Milliseconds from a call's beginning. */
export type CallTimes = {
  /** Until its first byte left: a connection was there. */
  sentMs?: number;
  /** Until the head of an answer was here. */
  headMs?: number;
};

export type CallOutcome =
  | { type: "begun"; begun: Begun; watch: Watch; times: CallTimes }
  | {
      type: "failed";
      error: HubError;
      ended: Ended | undefined;
      /** Whether the upstream may know of the call. */
      sent: boolean;
      /** Whether an answer had begun. */
      answered: boolean;
      /** What the upstream says that it used all the same. */
      told?: ReadUsage | undefined;
      /** An answer that a filter stopped, for the case that nobody has a better one; whoever drops it lets it go. */
      withheld?: Begun;
      times: CallTimes;
    };

export type CallInput = {
  target: Target;
  call: Call;
  context: CallContext;
  /** Aborted when the client leaves. */
  client: AbortSignal;
  times: WatchTimes;
  limits: StreamHold & {
    answerBytesMax: number;
    errorBytesMax: number;
    frameBytesMax: number;
    mediaFrameBytesMax?: number;
    relayedTextCharsMax: number;
  };
  /** Whether somebody else is asked where the upstream's own filter stops an answer; else that is the answer. */
  dropsFiltered: boolean;
  /** Called when the first byte is about to leave. */
  onSent: () => void;
};

export type OneCall = {
  turn: Turn;
  /** Whether the upstream may know of it by now. */
  wasSent(): boolean;
  /** Never rejects. The deployment's health is told, but for the end of a stream. */
  outcome: Promise<CallOutcome>;
  /** Ends it, because another was quicker. What it has is let go. */
  lose(): void;
};

export function beginCall(turn: Turn, input: CallInput): OneCall {
  const { provider } = turn.deployment;
  const watch = new Watch(input.client, provider.name, input.times);
  const seen: Seen = { sent: false, answered: false };
  const outcome = makeCall(turn, { ...input, watch, seen });
  return {
    turn,
    wasSent: () => seen.sent,
    outcome,
    lose() {
      watch.lose();
      void outcome.then((made) => letGo(made.type === "begun" ? made.begun : made.withheld));
    },
  };
}

/** What nobody will read. */
export function letGo(begun: Begun | undefined): void {
  if (begun?.type !== "stream") return;
  const { watch, response, turn } = begun.stream;
  watch.done();
  response.cancel();
  turn.abandon();
}

/** How far a call has come. */
type Seen = { sent: boolean; answered: boolean };

async function makeCall(
  turn: Turn,
  { watch, seen, ...input }: CallInput & { watch: Watch; seen: Seen },
): Promise<CallOutcome> {
  const { provider } = turn.deployment;
  const times: CallTimes = {};
  const beganAtMs = performance.now();
  const onSent = () => {
    seen.sent = true;
    times.sentMs = rounded(performance.now() - beganAtMs);
    input.onSent();
  };
  const { target, context } = input;
  const traced = context.trace?.began({
    format: provider.format.name,
    upstream: provider.name,
    deployment: turn.deployment.name,
    model: target.model.upstreamModel,
    startedAtMs: context.nowMs(),
  });
  let response: TransportResponse | undefined;
  try {
    const conversation = beginConversation(input, provider);
    const { request } = conversation;
    const headers = traced ? { ...request.headers, ...traced.headers } : request.headers;
    const sent = { ...request, headers, signal: watch.signal, onSent };
    const send = () => provider.transport.send(sent);
    watch.expect("the first byte", provider.timeouts.firstByteMs);
    // A connection that was kept open may be found closed only when it is used; or it broke while the upstream worked.
    response = await send().catch((thrown) => {
      const mayHaveActed = seen.sent && mayAct(input.call);
      if (!isConnectionReset(thrown) || watch.ended || mayHaveActed) throw thrown;
      return send();
    });
    times.headMs = rounded(performance.now() - beganAtMs);
    seen.answered = response.status === 200;
    const { filtered, ...read } = await readBeginning(response, {
      ...input,
      turn,
      watch,
      conversation,
    });
    const begun = { ...read, dropped: request.dropped };
    if (filtered) {
      if (traced) Object.assign(traced.span, { endedAtMs: context.nowMs(), error: filtered.code });
      turn.fail(filtered, true);
      const told = filtered.usage;
      return {
        type: "failed",
        error: filtered,
        ended: undefined,
        ...seen,
        told,
        withheld: begun,
        times,
      };
    }
    if (begun.type === "stream") turn.begun();
    else {
      if (traced) traced.span.endedAtMs = context.nowMs();
      turn.begun();
      turn.succeed();
    }
    return { type: "begun", begun, watch, times };
  } catch (thrown) {
    watch.done();
    response?.cancel();
    // Whatever the transport made of the abort, the watch knows why.
    const error = toUpstreamError(watch.ended ? watch.signal.reason : thrown, provider.name);
    if (traced) Object.assign(traced.span, { endedAtMs: context.nowMs(), error: error.code });
    const { ended } = watch;
    if (ended === undefined || ended === "timed_out") turn.fail(error, seen.sent);
    else turn.abandon();
    return { type: "failed", error, ended, ...seen, times };
  }
}

/** A request that our translation stumbles over is our mistake, for which no upstream is closed to others. */
function beginConversation({ call, target, context }: CallInput, provider: Provider): Conversation {
  try {
    const open = () => openConversation(call, { provider, target, context });
    return context.timings ? context.timings.translating(open) : open();
  } catch (thrown) {
    throw asHubError(thrown);
  }
}

type Beginning = CallInput & { turn: Turn; watch: Watch; conversation: Conversation };

async function readBeginning(response: TransportResponse, input: Beginning) {
  const { turn, target, conversation, call, limits, watch } = input;
  const { provider } = turn.deployment;
  if (response.status !== 200) {
    const body = await readAll(response, watch, provider, limits.errorBytesMax, "truncate");
    throw provider.readError(response, body);
  }
  const { response: answering, heard } = heardOf(response, input);
  const answered = { target, adapterDigest: provider.readHead(response, target), heard };
  if (call.stream) {
    const { filtered, ...stream } = await openStream(answering, input);
    return { type: "stream" as const, stream, ...answered, filtered };
  }
  const bytes = await readAll(answering, watch, provider, limits.answerBytesMax, "refuse");
  watch.done();
  const { reading } = conversation;
  const filtered =
    input.dropsFiltered && reading
      ? filteredIn(provider.name, () => reading.readAnswer(bytes))
      : undefined;
  const readAnswer = () => conversation.readAnswer(bytes, (name) => response.header(name));
  const { timings } = input.context;
  const answer = timings ? timings.translating(readAnswer) : readAnswer();
  return { type: "answer" as const, answer, ...answered, filtered };
}

/** A good answer, heard as it is read where its project lets it be kept. */
function heardOf(
  response: TransportResponse,
  { context, conversation, call, limits }: Beginning,
): { response: TransportResponse; heard: Answered["heard"] } {
  const hearing = context.hear?.();
  if (!hearing) return { response, heard: undefined };
  const about = { stream: call.stream, contentType: response.header("content-type"), limits };
  const heard = () => ({
    bytes: hearing.bytes,
    stream: call.stream,
    truncated: hearing.truncated,
    read: (bytes: Uint8Array) => conversation.readHeard(bytes, about),
  });
  return { response: hearing.of(response), heard };
}

async function openStream(
  response: TransportResponse,
  { turn, watch, conversation, limits, context, dropsFiltered }: Beginning,
): Promise<OpenStream & { filtered: FilteredAnswer | undefined }> {
  const { provider } = turn.deployment;
  const contentType = response.header("content-type");
  if (!conversation.streamType.test(contentType ?? "")) {
    throw new HubError(
      "upstream_error",
      `The upstream '${provider.name}' did not answer with a stream.`,
    );
  }
  const opened = conversation.openStream(limits, contentType);
  const reader = context.timings ? timed(opened, context.timings) : opened;
  const reading = dropsFiltered ? conversation.reading?.openReader(limits) : undefined;
  const filter = reading && new FilterWatch(provider.name, reading);
  const held = await hold(response, reader, { ...limits, watch: filter });
  watch.begun();
  return { provider, turn, reader, watch, ...held };
}

/** The same stream, with what it takes to read and write its events counted as translating. */
function timed(stream: AnswerStream, timings: Timings): AnswerStream {
  const { whole } = stream;
  return {
    get begun() {
      return stream.begun;
    },
    get usage() {
      return stream.usage;
    },
    get contentType() {
      return stream.contentType;
    },
    relayed: stream.relayed,
    push: (chunk) => timings.translating(() => stream.push(chunk)),
    close: () => stream.close(),
    ending: (error) => stream.ending(error),
    ...(whole && { whole: whole.bind(stream) }),
  };
}

async function readAll(
  response: TransportResponse,
  watch: Watch,
  provider: Provider,
  bytesMax: number,
  beyond: "truncate" | "refuse",
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (let chunk = await response.read(); chunk; chunk = await response.read()) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > bytesMax) {
      if (beyond === "truncate") {
        response.cancel();
        break;
      }
      throw new HubError(
        "upstream_error",
        `The answer of the upstream '${provider.name}' is larger than ${bytesMax} bytes.`,
      );
    }
    watch.expect("the next byte", provider.timeouts.idleMs);
  }
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
}
