/** Answers one embeddings request from the base or an adapter: tokens, weights, a vector for each input. */
import type { EmbeddingsResponse } from "../../sdk/protocol/embeddings.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { adapterDigestHeader, servedModelHeader } from "../../sdk/protocol/http.ts";
import { type Caller, type GenerationParts, servedName } from "../generation/generate.ts";
import { acquireWeights } from "../generation/target.ts";
import { contextLengthOf } from "../parts.ts";
import type { EmbeddingsPlan } from "./request.ts";
import { checkDimensions, finish, write } from "./vectors.ts";

/** @throws HubError `context_length_exceeded` that names the input, and what weights and engine throw */
export async function answerEmbeddings(
  parts: GenerationParts,
  plan: EmbeddingsPlan,
  caller: Caller,
): Promise<Response> {
  const { engine, metrics, embeddings } = parts;
  const startMs = parts.monotonicMs();
  const width = engine.facts.dims.hiddenSize;
  checkDimensions(plan.dimensions, { width, shortened: embeddings.matryoshka });
  const prompts = toPrompts(parts, plan);
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  const lease = await acquireWeights(parts, plan, caller);
  const adapter = lease?.adapter.digest;
  const track = metrics.begin({ startMs, adapter, promptTokens });
  try {
    const pooling = plan.pooling ?? embeddings.pooling;
    const vectors = await eachOf(
      prompts,
      parts.limits.sequencesMax,
      caller.signal,
      (prompt, signal) => {
        const { tenant, timeoutMs } = caller;
        return engine.embed({ prompt, pooling, adapter, tenant, timeoutMs, signal });
      },
    );
    for (const vector of vectors) expectAdapter(vector.adapter, adapter);
    track.end("stop");
    const answer: EmbeddingsResponse = {
      object: "list",
      data: vectors.map(({ embedding }, index) => ({
        object: "embedding",
        index,
        embedding: write(finish(embedding, plan), plan.encoding),
      })),
      model: servedName(plan, caller),
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    };
    const headers: Record<string, string> = { [servedModelHeader]: answer.model };
    if (adapter !== undefined) headers[adapterDigestHeader] = adapter;
    return Response.json(answer, { headers });
  } catch (error) {
    const cancelled = error instanceof HubError && error.code === "request_cancelled";
    track.end(cancelled ? "abort" : "error");
    throw error;
  } finally {
    lease?.release();
  }
}

/** The tokens of each input. What a text spells as a control token is one, as in the reference. */
function toPrompts(parts: GenerationParts, plan: EmbeddingsPlan): (readonly number[])[] {
  const { model, engine, limits } = parts;
  const { vocabSize } = engine.facts.dims;
  const lengthMax = contextLengthOf(engine);
  let left = limits.embeddingTokensMax;
  return plan.inputs.map((input, index) => {
    const param = `input[${index}]`;
    const isText = typeof input === "string";
    const tokens = isText ? model.tokenizer.encode(input, plan) : input;
    if (tokens.length === 0) {
      throw new HubError("invalid_value", `Invalid '${param}': it has no tokens.`, { param });
    }
    const unknown = tokens.find((token) => token >= vocabSize);
    if (unknown !== undefined) {
      throw new HubError(
        "number_out_of_range",
        `Invalid '${param}': the model has ${vocabSize} tokens, and ${unknown} is none of them.`,
        { param },
      );
    }
    if (tokens.length > lengthMax) {
      throw new HubError(
        "context_length_exceeded",
        `This model's maximum context length is ${lengthMax} tokens. However, '${param}' has ${tokens.length} tokens. Please cut it into shorter ones.`,
        { param, details: { contextLength: lengthMax, promptTokens: tokens.length } },
      );
    }
    left -= tokens.length;
    if (left < 0) {
      throw new HubError(
        "request_too_large",
        `The inputs have more than ${limits.embeddingTokensMax} tokens together. Send them in several requests.`,
        { param: "input" },
      );
    }
    return tokens;
  });
}

/** What is not the adapter's is never answered in its name. */
function expectAdapter(found: string | undefined, asked: string | undefined): void {
  if (found === asked) return;
  throw new HubError(
    "adapter_not_applied",
    `The embedding was computed with ${found ? `sha256-${found}` : "the base"} and not with ${asked ? `sha256-${asked}` : "the base"}.`,
  );
}

/** Results in the order of the items, `max` of which are under way at one time; the first failure cancels the rest. */
async function eachOf<T, R>(
  items: readonly T[],
  max: number,
  signal: AbortSignal,
  run: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const leave = new AbortController();
  const both = AbortSignal.any([signal, leave.signal]);
  const results: R[] = [];
  // One iterator for all workers, so that each item is taken once.
  const waiting = items.entries();
  const work = async () => {
    for (const [index, item] of waiting) results[index] = await run(item, both);
  };
  const workers = Array.from({ length: Math.min(max, items.length) }, work);
  try {
    await Promise.all(workers);
    return results;
  } finally {
    leave.abort();
    await Promise.allSettled(workers);
  }
}
