/** Answers one chat request: prompt, weights, tokens, and whatever way it ends, all is let go. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { adapterDigestHeader, servedModelHeader } from "../../sdk/protocol/http.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import type { AdapterLease } from "../lora/adapter-cache.ts";
import type { Metrics, Outcome, RequestTrack } from "../metrics.ts";
import { type AppParts, contextLengthOf, noSuchModel, type ServedModel } from "../parts.ts";
import { type AnswerHead, toCompletion, toFrames } from "./answer.ts";
import { decodeChoices, type Piece } from "./choices.ts";
import type { ChatPlan, SingleTarget } from "./request.ts";

type ChatParts = AppParts & { metrics: Metrics };
type Caller = {
  signal: AbortSignal;
  tenant: string;
  isOperator: boolean;
  /** What the answer calls its model; the requested name when absent. */
  servedAs?: string | undefined;
};

/** Prompt, then weights, then tokens. The answer begins with the first token, so that failures before it have a status. */
export async function answerChat(
  parts: ChatParts,
  plan: ChatPlan,
  caller: Caller,
): Promise<Response> {
  const { model, metrics } = parts;
  const startMs = parts.nowMs();
  const prompt = toPrompt(model, plan.messages);
  const maxTokens = tokensLeft(parts, prompt.length, plan.maxTokens);
  const lease = await acquireWeights(parts, plan, caller);
  const leave = new AbortController();
  const pieces = tracked(
    metrics.begin({ startMs, adapter: lease?.adapter.digest, promptTokens: prompt.length }),
    decodeChoices({
      engine: parts.engine,
      tokenizer: model.tokenizer,
      request: {
        prompt,
        maxTokens,
        stopIds: plan.ignoreEos ? [] : model.endTokenIds,
        adapter: lease?.adapter.digest,
        tenant: caller.tenant,
        sampling: samplingOf(parts, plan),
        logprobs: plan.logprobs,
      },
      stop: plan.stop,
      choices: plan.choices,
      signal: AbortSignal.any([caller.signal, leave.signal]),
    }),
    () => lease?.release(),
  );
  const first = await pieces.next();
  const all = resume(first, pieces);
  const adapter = first.value?.adapter;
  const head: AnswerHead = {
    id: `chatcmpl-${newId("req", parts.nowMs()).slice(4)}`,
    created: Math.floor(parts.nowMs() / 1000),
    model: caller.servedAs ?? plan.model,
    fingerprint: model.fingerprint,
    promptTokens: prompt.length,
  };
  const headers: Record<string, string> = { [servedModelHeader]: head.model };
  if (adapter !== undefined) headers[adapterDigestHeader] = adapter;
  if (!plan.stream) {
    return Response.json(await toCompletion(head, all, plan.choices), { headers });
  }
  const frames = toFrames(head, all, { includeUsage: plan.includeUsage });
  return new Response(
    toByteStream(frames, () => leave.abort()),
    {
      headers: { ...headers, ...streamHeaders },
    },
  );
}

/** Only the template writes control tokens: who ends a turn in a message's text has written some letters. */
function toPrompt({ tokenizer, template }: ServedModel, messages: ChatPlan["messages"]): number[] {
  const quoted = messages.map(({ role, content }) => ({ role, content: tokenizer.quote(content) }));
  return tokenizer.encode(template.render(quoted));
}

/** @throws HubError `context_length_exceeded` when there is no room for a single token of answer */
function tokensLeft(parts: ChatParts, promptTokens: number, asked: number | undefined): number {
  const contextLength = contextLengthOf(parts.engine);
  const left = contextLength - promptTokens;
  if (left < 1) {
    throw new HubError(
      "context_length_exceeded",
      `This model's maximum context length is ${contextLength} tokens. However, your messages resulted in ${promptTokens} tokens. Please reduce the length of the messages.`,
      { param: "messages", details: { contextLength, promptTokens } },
    );
  }
  return Math.min(left, asked ?? left);
}

async function acquireWeights(
  parts: ChatParts,
  plan: ChatPlan,
  caller: Caller,
): Promise<AdapterLease | undefined> {
  const digestOf = (target: SingleTarget) => {
    // To those who may not ask for weights by digest there are none, whether they exist or not.
    if (target.type === "digest" && caller.isOperator) return target.digest;
    const named = target.type === "name" ? parts.adapters.named(target.name) : undefined;
    if (!named) throw noSuchModel(plan.model);
    return named.digest;
  };
  const { target } = plan;
  switch (target.type) {
    case "base":
      return undefined;
    case "name":
    case "digest":
      return parts.adapters.acquire(digestOf(target));
    case "mix":
      return parts.adapters.acquireMix(
        target.parts.map((part) => ({ digest: digestOf(part.target), weight: part.weight })),
      );
    default:
      return target satisfies never;
  }
}

function samplingOf(parts: ChatParts, plan: ChatPlan) {
  const { generationDefaults } = parts.model;
  return {
    temperature: plan.temperature ?? generationDefaults.temperature ?? 1,
    topP: plan.topP ?? generationDefaults.topP ?? 1,
    topK: plan.topK ?? generationDefaults.topK ?? 0,
    repetitionPenalty: plan.repetitionPenalty ?? generationDefaults.repetitionPenalty ?? 1,
    seed: plan.seed ?? parts.newSeed(),
    stream: 0,
  };
}

/** Passes pieces on and keeps account of them; whatever way it ends, the weights are let go. */
async function* tracked(
  track: RequestTrack,
  pieces: AsyncIterable<Piece>,
  release: () => void,
): AsyncGenerator<Piece, void, void> {
  let outcome: Outcome = "abort";
  try {
    let finish: Outcome = "length";
    for await (const piece of pieces) {
      track.tokens(piece.tokens, piece.choice);
      if (piece.finish) finish = piece.finish;
      yield piece;
    }
    outcome = finish;
  } catch (error) {
    const cancelled = error instanceof HubError && error.code === "request_cancelled";
    outcome = cancelled ? "abort" : "error";
    throw error;
  } finally {
    track.end(outcome);
    release();
  }
}

/** A generator whose first result was read already. */
async function* resume<T>(first: IteratorResult<T, void>, rest: AsyncGenerator<T, void, void>) {
  if (first.done) return;
  try {
    yield first.value;
    yield* rest;
  } finally {
    await rest.return();
  }
}

/** @param onCancel called when the reader goes away, also while a frame is awaited */
function toByteStream(
  frames: AsyncGenerator<string, void, void>,
  onCancel: () => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await frames.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      onCancel();
      await frames.return();
    },
  });
}

const streamHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};
