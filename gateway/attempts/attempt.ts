/** Sends a request to the planned models in turn, until one has begun to answer. */
import { HubError, invariant } from "../../sdk/protocol/errors.ts";
import type { ChatCall } from "../dialects/openai-chat/request.ts";
import { ChatStream, type ChatStreamStep } from "../providers/openai/stream.ts";
import type { CallContext, Provider, ProviderAnswer } from "../providers/provider.ts";
import type { TransportResponse } from "../providers/transport.ts";
import type { Target } from "../routing/resolve.ts";
import type { Breaker } from "./breaker.ts";
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
  reader: ChatStream;
  watch: Watch;
  first: ChatStreamStep;
};

export type AttemptResult = { tried: Tried[] } & (
  | ({ type: "answer"; answer: ProviderAnswer } & Answered)
  | ({ type: "stream"; stream: OpenStream } & Answered)
  /** `sent` is the last model that may have begun to work on the request. */
  | { type: "failed"; error: HubError; clientGone: boolean; sent: Target | undefined }
);

export type AttemptInput = {
  targets: readonly Target[];
  call: ChatCall;
  context: CallContext;
  /** Aborted when the client leaves. */
  client: AbortSignal;
  /** The client's own deadline, when it told one. */
  clientTimeoutMs: number | undefined;
  upstream: (name: string) => Upstream | undefined;
  limits: {
    answerBytesMax: number;
    errorBytesMax: number;
    frameBytesMax: number;
    relayedTextCharsMax: number;
  };
  now: () => number;
};

/** Never throws for what an upstream does; the failure of the last attempt is the result then. */
export async function attemptInOrder(input: AttemptInput): Promise<AttemptResult> {
  const tried: Tried[] = [];
  let error: HubError | undefined;
  let sent: Target | undefined;
  for (const target of input.targets) {
    const upstream = input.upstream(target.model.upstream);
    const startedAtMs = input.now();
    const note = (failure?: HubError) =>
      tried.push({
        model: target.name,
        upstream: target.model.upstream,
        ms: Math.round(input.now() - startedAtMs),
        ...(failure && { error: failure.code, message: failure.message }),
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
    try {
      sent = target;
      const result = await attemptWithOneReconnect(upstream, target, input);
      upstream.breaker.succeed();
      note();
      return { ...result, tried };
    } catch (thrown) {
      const failure = toUpstreamError(thrown, upstream.provider.name);
      note(failure);
      if (input.client.aborted) {
        upstream.breaker.abandon();
        return { type: "failed", error: failure, clientGone: true, sent, tried };
      }
      if (isUpstreamFault(failure)) upstream.breaker.fail();
      else upstream.breaker.succeed();
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

async function attemptWithOneReconnect(
  upstream: Upstream,
  target: Target,
  input: AttemptInput,
): Promise<Begun> {
  try {
    return await attempt(upstream, target, input);
  } catch (thrown) {
    if (!isConnectionReset(thrown) || input.client.aborted) throw thrown;
    return await attempt(upstream, target, input);
  }
}

async function attempt(upstream: Upstream, target: Target, input: AttemptInput): Promise<Begun> {
  const { provider } = upstream;
  const { call, limits } = input;
  const { firstByteMs, totalMs } = provider.timeouts;
  const request = provider.writeRequest(call, target, input.context);
  const watch = new Watch(
    input.client,
    provider.name,
    Math.min(totalMs, input.clientTimeoutMs ?? totalMs),
  );
  let response: TransportResponse | undefined;
  try {
    watch.expect("the first byte", firstByteMs);
    response = await provider.transport.send({ ...request, signal: watch.signal });
    if (response.status !== 200) {
      const body = await readAll(response, watch, provider, limits.errorBytesMax, "truncate");
      throw provider.readError(response, body);
    }
    const answered = {
      target,
      adapterDigest: provider.readHead(response, target),
      dropped: request.dropped,
    };
    if (call.stream) {
      const stream = await openStream(upstream, response, watch, input);
      return { type: "stream", stream, ...answered };
    }
    const bytes = await readAll(response, watch, provider, limits.answerBytesMax, "refuse");
    watch.done();
    return { type: "answer", answer: provider.readAnswer(bytes), ...answered };
  } catch (thrown) {
    watch.done();
    response?.cancel();
    // Whatever the transport made of the abort, the watch knows why.
    throw watch.ended ? watch.signal.reason : thrown;
  }
}

/** Reads until there is something for the client, so that all that fails before can still fall back. */
async function openStream(
  upstream: Upstream,
  response: TransportResponse,
  watch: Watch,
  { call, limits }: AttemptInput,
): Promise<OpenStream> {
  const { provider } = upstream;
  if (!/^text\/event-stream\b/i.test(response.header("content-type") ?? "")) {
    throw new HubError(
      "upstream_error",
      `The upstream '${provider.name}' did not answer with a stream.`,
    );
  }
  const reader = new ChatStream({ wantsUsage: call.wantsUsage, ...limits });
  for (;;) {
    const chunk = await response.read();
    const first = chunk ? reader.push(chunk) : reader.close();
    if (first.end?.error && first.pass.length === 0) throw first.end.error;
    if (first.pass.length > 0 || first.end) {
      watch.received();
      return { upstream, response, reader, watch, first };
    }
  }
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
