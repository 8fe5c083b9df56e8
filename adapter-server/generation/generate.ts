/** Answers a request that generates text: weights, then tokens, and whatever way it ends, all is let go. */
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { adapterDigestHeader, servedModelHeader } from "../../sdk/protocol/http.ts";
import type { Outcome, RequestTrack } from "../metrics/request-series.ts";
import type { Metrics } from "../metrics.ts";
import { type AppParts, contextLengthOf } from "../parts.ts";
import { streamHeaders, toByteStream } from "./byte-stream.ts";
import type { Piece } from "./choices.ts";
import { type Deadline, deadlineOf, isCancelled } from "./deadline.ts";
import type { GenerationPlan } from "./plan.ts";
import { decodePrompts } from "./prompts.ts";
import { toSampling } from "./sampling.ts";
import { acquireWeights } from "./target.ts";

export type GenerationParts = AppParts & { metrics: Metrics };

/** For whom a request is answered. */
export type Caller = {
  signal: AbortSignal;
  tenant: string;
  isOperator: boolean;
  /** How long it waits for the whole answer. */
  timeoutMs?: number | undefined;
  /** What the answer calls its model; the requested name when absent. */
  servedAs?: string | undefined;
};

/** How a route writes an answer: whole, or as the frames of a stream. */
export type AnswerShape = {
  whole: (pieces: AsyncIterable<Piece>) => Promise<unknown>;
  frames: (pieces: AsyncIterable<Piece>) => AsyncGenerator<string, void, void>;
};

/**
 * Weights, then tokens. The answer begins with the first token, so that failures before it have a status.
 * @param prompts tokens, each of which as many choices continue as the plan says
 * @param startMs when the request came, by `monotonicMs`
 * @throws HubError `context_length_exceeded`, and what weights and engine throw
 */
export async function generate(
  parts: GenerationParts,
  request: {
    plan: GenerationPlan;
    prompts: readonly (readonly number[])[];
    caller: Caller;
    startMs: number;
  },
  shape: AnswerShape,
): Promise<Response> {
  const { model, metrics, monotonicMs } = parts;
  const { plan, prompts, caller, startMs } = request;
  const sampling = toSampling(plan.sampling, {
    ...parts,
    ...model,
    defaults: model.generationDefaults,
  });
  // Where a grammar is complete nothing but its end is left to say.
  const ends = plan.ignoreEos && !plan.grammar ? [] : model.endTokenIds;
  const requests = prompts.map((prompt) => ({
    prompt,
    maxTokens: tokensLeft(parts, prompt.length, plan),
    stopIds: [...ends, ...plan.stopTokens],
    grammar: plan.grammar,
    tenant: caller.tenant,
    timeoutMs: caller.timeoutMs,
    priority: priorityOf(plan, caller),
    sampling,
    logprobs: plan.logprobs,
    promptLogprobs: plan.promptLogprobs,
  }));
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  refuseEmpty(prompts, plan);
  refuseManyScores(parts, promptTokens, plan);
  const deadline = deadlineOf(caller, monotonicMs() - startMs);
  const { signal } = deadline;
  const lease = await acquireWeights(parts, plan, { ...caller, signal }).catch((error) => {
    deadline.end();
    throw deadline.toldAs(error);
  });
  const leave = new AbortController();
  const pieces = tracked(
    metrics.begin({
      ...{ startMs, adapter: lease?.adapter.digest, promptTokens },
      ...{ choices: plan.choices, maxTokens: plan.maxTokens },
    }),
    decodePrompts({
      engine: parts.engine,
      tokenizer: model.tokenizer,
      requests: requests.map((one) => ({ ...one, adapter: lease?.adapter.digest })),
      sequencesMax: parts.limits.sequencesMax,
      promptOnly: plan.maxTokens === 0,
      stopTokens: plan.stopTokens.filter((token) => !ends.includes(token)),
      text: plan,
      choices: plan.choices,
      signal: anySignal([signal, leave.signal]),
    }),
    { deadline, release: () => lease?.release() },
  );
  const first = await pieces.next();
  const all = resume(first, pieces);
  const adapter = first.value?.adapter;
  const headers: Record<string, string> = { [servedModelHeader]: servedName(plan, caller) };
  if (adapter !== undefined) headers[adapterDigestHeader] = adapter;
  if (!plan.stream) return Response.json(await shape.whole(all), { headers });
  return new Response(
    toByteStream(shape.frames(all), {
      onCancel: () => leave.abort(),
      unreadMsMax: parts.limits.unreadMsMax,
    }),
    { headers: { ...headers, ...streamHeaders } },
  );
}

/**
 * The prompt, or its end where the client wants no more of it.
 * @throws HubError `number_out_of_range` where the answer would leave no room for any of it
 */
export function cutPrompt(
  { engine }: AppParts,
  prompt: readonly number[],
  { promptTokensMax, maxTokens = 1 }: GenerationPlan,
): readonly number[] {
  if (promptTokensMax === undefined) return prompt;
  const left = contextLengthOf(engine) - maxTokens;
  if (promptTokensMax === "fit" && left < 1) {
    throw new HubError(
      "number_out_of_range",
      `Nothing of the prompt would be left: 'truncate_prompt_tokens' of -1 keeps what the answer's ${maxTokens} tokens leave of the context, which has ${contextLengthOf(engine)}. Ask for fewer tokens.`,
      { param: "truncate_prompt_tokens" },
    );
  }
  const most = promptTokensMax === "fit" ? left : promptTokensMax;
  return prompt.slice(Math.max(0, prompt.length - Math.max(1, most)));
}

/** @throws HubError `permission_denied`: who may say that it comes first would come first */
function priorityOf({ priority }: GenerationPlan, { isOperator }: Caller): number {
  if (priority === 0 || isOperator) return priority;
  throw new HubError("permission_denied", "'priority' needs the operator's key; leave it out.", {
    param: "priority",
  });
}

/** What an answer calls the model that gave it. */
export function servedName(plan: Pick<GenerationPlan, "model">, caller: Caller): string {
  return caller.servedAs ?? plan.model;
}

/** @throws HubError `invalid_value`: nothing comes after nothing, and a chat template may write nothing */
function refuseEmpty(
  prompts: readonly (readonly number[])[],
  { promptField }: Pick<GenerationPlan, "promptField">,
): void {
  if (prompts.every(({ length }) => length > 0)) return;
  throw new HubError("invalid_value", `Invalid '${promptField}': it has no tokens.`, {
    param: promptField,
  });
}

/** @throws HubError `number_out_of_range` for an answer with more of a prompt's log-probabilities than fit into memory */
function refuseManyScores(
  { limits }: AppParts,
  promptTokens: number,
  { promptLogprobs, promptField, choices }: GenerationPlan,
): void {
  if (promptLogprobs === undefined) return;
  const scores = promptTokens * (promptLogprobs + 1) * choices;
  if (scores <= limits.promptScoresMax) return;
  throw new HubError(
    "number_out_of_range",
    `The ${promptField} would be told with ${scores} log-probabilities, and one answer has at most ${limits.promptScoresMax}. Ask for fewer alternatives or choices, or send several requests.`,
    { param: promptField },
  );
}

/** @throws HubError `context_length_exceeded` when there is no room for a single token of answer */
function tokensLeft(
  { engine }: AppParts,
  promptTokens: number,
  { maxTokens, promptField }: GenerationPlan,
): number {
  const contextLength = contextLengthOf(engine);
  const left = contextLength - promptTokens;
  if (left < 1) {
    throw new HubError(
      "context_length_exceeded",
      `This model's maximum context length is ${contextLength} tokens. However, your ${promptField} resulted in ${promptTokens} tokens. Please reduce the length of the ${promptField}.`,
      { param: promptField, details: { contextLength, promptTokens } },
    );
  }
  // Even where only the prompt is of interest, the engine says a token after it.
  return Math.max(1, Math.min(left, maxTokens ?? left));
}

/** Passes pieces on and keeps account of them; whatever way it ends, the weights are let go. */
async function* tracked(
  track: RequestTrack,
  pieces: AsyncIterable<Piece>,
  { deadline, release }: { deadline: Deadline; release: () => void },
): AsyncGenerator<Piece, void, void> {
  let outcome: Outcome = "abort";
  try {
    let finish: Outcome = "length";
    for await (const piece of pieces) {
      track.progress({ ...piece, tokens: piece.tokens.length });
      if (piece.finish) finish = piece.finish;
      yield piece;
    }
    outcome = finish;
  } catch (error) {
    const told = deadline.toldAs(error);
    outcome = isCancelled(told) ? "abort" : "error";
    throw told;
  } finally {
    deadline.end();
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
