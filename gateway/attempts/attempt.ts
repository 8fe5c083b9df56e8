/** Sends a request to the planned models in turn, until one has begun to answer. */
import { asHubError, HubError, invariant } from "../../sdk/protocol/errors.ts";
import type { Call } from "../dialects/dialect.ts";
import type { CallContext, Provider, ProviderAnswer } from "../providers/provider.ts";
import type { TransportResponse } from "../providers/transport.ts";
import type { Target } from "../routing/resolve.ts";
import type { AnswerStream, StreamStep } from "./answer-stream.ts";
import type { Breaker } from "./breaker.ts";
import { type Conversation, openConversation } from "./conversation.ts";
import { isConnectionReset, isUpstreamFault, mayFallBack, toUpstreamError } from "./failure.ts";
import { Watch } from "./watch.ts";

export type Upstream = { provider: Provider; breaker: Breaker };

/** One try of one model, for the decision record and the log. Plain JSON. */
export type Tried = {
  model: string;
  upstream: string;
  ms: number;
  error?: string;
  message?: string;
};

type Answered = { target: Target; adapterDigest: string | undefined; dropped: readonly string[] };

/** A stream whose first event is here: nothing has been said to the client yet. */
export type OpenStream = {
  upstream: Upstream;
  response: TransportResponse;
  reader: AnswerStream;
  watch: Watch;
  first: StreamStep;
};

export type AttemptResult = { tried: Tried[] } & (
  | ({ type: "answer"; answer: ProviderAnswer } & Answered)
  | ({ type: "stream"; stream: OpenStream } & Answered)
  /**
   * `sent` is the last model that may have begun to work on the request. `clientGone`: the client left,
   * or its own deadline passed; the upstream is not to blame.
   */
  | { type: "failed"; error: HubError; clientGone: boolean; sent: Target | undefined }
);

export type AttemptInput = {
  targets: readonly Target[];
  call: Call;
  context: CallContext;
  /** Aborted when the client leaves. */
  client: AbortSignal;
  /** When the client gives up on an answer that has not begun, on the clock of `now`. */
  clientDeadlineMs: number | undefined;
  upstream: (name: string) => Upstream | undefined;
  limits: {
    answerBytesMax: number;
    errorBytesMax: number;
    frameBytesMax: number;
    relayedTextCharsMax: number;
  };
  now: () => number;
};

/**
 * Never throws for what an upstream does; the failure of the last attempt is the result then. An upstream's
 * total time runs from here, so that fallbacks do not make a request last longer than one upstream may.
 */
export async function attemptInOrder(input: AttemptInput): Promise<AttemptResult> {
  const { client, clientDeadlineMs, now } = input;
  const beganAtMs = now();
  const tried: Tried[] = [];
  let error: HubError | undefined;
  let sent: Target | undefined;
  for (const target of input.targets) {
    const upstream = input.upstream(target.model.upstream);
    const startedAtMs = now();
    const note = (failure?: HubError) =>
      tried.push({
        model: target.name,
        upstream: target.model.upstream,
        ms: Math.round(now() - startedAtMs),
        ...(failure && { error: failure.code, message: failure.unquoted }),
      });
    if (!upstream?.breaker.enter()) {
      error = new HubError(
        "upstream_unavailable",
        `The upstream '${target.model.upstream}' is failing and is not being called for a moment.`,
        { retryAfterMs: upstream?.breaker.retryAfterMs() },
      );
      note(error);
      continue;
    }
    const watch = new Watch(client, upstream.provider.name, {
      totalMs: Math.max(0, upstream.provider.timeouts.totalMs - (startedAtMs - beganAtMs)),
      clientMs: clientDeadlineMs && Math.max(0, clientDeadlineMs - startedAtMs),
    });
    let wasSent = false;
    const onSent = () => {
      sent = target;
      wasSent = true;
    };
    try {
      const result = await attemptWithOneReconnect(upstream, target, { ...input, watch, onSent });
      if (result.type === "stream") upstream.breaker.begun();
      else upstream.breaker.succeed();
      note();
      return { ...result, tried };
    } catch (thrown) {
      const failure = toUpstreamError(thrown, upstream.provider.name);
      note(failure);
      if (watch.ended === "client_gone" || watch.ended === "client_deadline") {
        upstream.breaker.abandon();
        return { type: "failed", error: failure, clientGone: true, sent, tried };
      }
      if (isUpstreamFault(failure)) upstream.breaker.fail();
      else if (wasSent) upstream.breaker.succeed();
      // What we refused by ourselves says nothing about who would have got it.
      else upstream.breaker.abandon();
      error = failure;
      if (!mayFallBack(failure)) break;
    }
  }
  invariant(error, "a plan has at least one target");
  return { type: "failed", error, clientGone: false, sent, tried };
}

type Begun =
  | ({ type: "answer"; answer: ProviderAnswer } & Answered)
  | ({ type: "stream"; stream: OpenStream } & Answered);

type OneAttempt = AttemptInput & { watch: Watch; onSent: () => void };

/**
 * A connection that was kept open may be found closed only when it is used. Once an answer has begun the
 * work is done and paid for, so what breaks then is not sent again.
 */
async function attemptWithOneReconnect(
  upstream: Upstream,
  target: Target,
  input: OneAttempt,
): Promise<Begun> {
  const { provider } = upstream;
  const { watch, onSent } = input;
  let response: TransportResponse | undefined;
  try {
    const { call, context } = input;
    const conversation = beginConversation(call, { provider, target, context });
    const { request } = conversation;
    const send = () => provider.transport.send({ ...request, signal: watch.signal, onSent });
    watch.expect("the first byte", provider.timeouts.firstByteMs);
    response = await send().catch((thrown) => {
      if (!isConnectionReset(thrown) || watch.ended) throw thrown;
      return send();
    });
    const answered = await readBeginning(response, { ...input, upstream, target, conversation });
    return { ...answered, dropped: request.dropped };
  } catch (thrown) {
    watch.done();
    response?.cancel();
    // Whatever the transport made of the abort, the watch knows why.
    throw watch.ended ? watch.signal.reason : thrown;
  }
}

/** A request that our translation stumbles over is our mistake, for which no upstream is closed to others. */
function beginConversation(...asked: Parameters<typeof openConversation>): Conversation {
  try {
    return openConversation(...asked);
  } catch (thrown) {
    throw asHubError(thrown);
  }
}

type Beginning = Pick<OneAttempt, "call" | "limits" | "watch"> & {
  upstream: Upstream;
  target: Target;
  conversation: Conversation;
};

async function readBeginning(response: TransportResponse, input: Beginning) {
  const { upstream, target, conversation, call, limits, watch } = input;
  const { provider } = upstream;
  if (response.status !== 200) {
    const body = await readAll(response, watch, provider, limits.errorBytesMax, "truncate");
    throw provider.readError(response, body);
  }
  const answered = { target, adapterDigest: provider.readHead(response, target) };
  if (call.stream) {
    const stream = await openStream(response, input);
    return { type: "stream" as const, stream, ...answered };
  }
  const bytes = await readAll(response, watch, provider, limits.answerBytesMax, "refuse");
  watch.done();
  return { type: "answer" as const, answer: conversation.readAnswer(bytes), ...answered };
}

/** Reads until there is something for the client, so that all that fails before can still fall back. */
async function openStream(
  response: TransportResponse,
  { upstream, watch, conversation, limits }: Beginning,
): Promise<OpenStream> {
  const { provider } = upstream;
  if (!conversation.streamType.test(response.header("content-type") ?? "")) {
    throw new HubError(
      "upstream_error",
      `The upstream '${provider.name}' did not answer with a stream.`,
    );
  }
  const reader = conversation.openStream(limits);
  const comments: Uint8Array[] = [];
  for (;;) {
    const chunk = await response.read();
    const { pass, ...step } = chunk ? reader.push(chunk) : reader.close();
    if (step.end?.error && !reader.begun) throw step.end.error;
    if (reader.begun || step.end) {
      watch.begun();
      return {
        upstream,
        response,
        reader,
        watch,
        first: { ...step, pass: [...comments, ...pass] },
      };
    }
    // A queue that says every few seconds that it is still there has not begun to answer.
    if (comments.length < commentsMax) comments.push(...pass);
  }
}

/** Further ones are dropped: nobody waits for them. */
const commentsMax = 16;

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
