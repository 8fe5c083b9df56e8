/** What makes vectors of tokens: the engine's model, with an adapter or without, or an encoder beside it. */
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Encoder } from "../encoder/encoder.ts";
import type { Embedded } from "../engine/engine.ts";
import type { Pooling } from "../engine/pooling.ts";
import type { Caller } from "../generation/generate.ts";
import { acquireWeights } from "../generation/target.ts";
import type { Tokenizer } from "../models/tokenizer.ts";
import { type AppParts, contextLengthOf } from "../parts.ts";
import type { EmbeddingsPlan } from "./request.ts";

export type Embedder = {
  /** Values of a vector. */
  width: number;
  vocabSize: number;
  /** Tokens that one text may have. */
  tokensMax: number;
  /** Whether vectors have a length of 1 where a request does not say it. */
  normalizes: boolean;
  tokenizer: Pick<Tokenizer, "encode">;
  /** @throws HubError `model_not_found`, and what loading an adapter throws */
  acquire(signal: AbortSignal): Promise<HeldEmbedder>;
};

/** With its weights, until they are released. */
export type HeldEmbedder = {
  /** The adapter's digest. */
  adapter: string | undefined;
  /** @param onEmbedded told of each prompt, by its place, where it was a sequence of the engine's */
  embed(
    prompts: readonly (readonly number[])[],
    signal: AbortSignal,
    onEmbedded: (prompt: number, facts: Pick<Embedded, "cachedTokens" | "queuedMs">) => void,
  ): Promise<Float32Array[]>;
  release(): void;
};

/** An encoder as it is served. */
export type ServedEncoder = {
  /** What clients call it. */
  id: string;
  encoder: Encoder;
  tokenizer: Pick<Tokenizer, "encode">;
  pooling: string;
  normalizes: boolean;
  tokensMax: number;
  vocabSize: number;
};

/** By the name that the request gives. */
export function embedderOf(parts: AppParts, plan: EmbeddingsPlan, caller: Caller): Embedder {
  const { encoder } = parts;
  return encoder && plan.model === encoder.id
    ? encoderEmbedder(encoder, plan)
    : engineEmbedder(parts, plan, caller);
}

/** Each text is a sequence of its own among the engine's others. */
function engineEmbedder(parts: AppParts, plan: EmbeddingsPlan, caller: Caller): Embedder {
  const { engine, model, embeddings, limits } = parts;
  const { hiddenSize: width, vocabSize } = engine.facts.dims;
  const { tenant, timeoutMs } = caller;
  const pooling: Pooling = plan.pooling ?? embeddings.pooling;
  return {
    width,
    vocabSize,
    tokensMax: contextLengthOf(engine),
    normalizes: true,
    tokenizer: model.tokenizer,
    async acquire(signal) {
      const lease = await acquireWeights(parts, plan, { ...caller, signal });
      const adapter = lease?.adapter.digest;
      return {
        adapter,
        embed: (prompts, signal, onEmbedded) =>
          eachOf(prompts, { max: limits.sequencesMax, signal }, async (prompt, either, index) => {
            const request = { prompt, pooling, adapter, tenant, timeoutMs, signal: either };
            const found = await engine.embed(request);
            expectAdapter(found.adapter, adapter);
            onEmbedded(index, found);
            return found.embedding;
          }),
        release: () => lease?.release(),
      };
    },
  };
}

/** @throws HubError `unsupported_parameter` for another pooling than its own */
export function encoderEmbedder(served: ServedEncoder, plan: EmbeddingsPlan): Embedder {
  const { encoder, tokenizer, tokensMax, vocabSize, pooling, normalizes } = served;
  if (plan.pooling !== undefined && plan.pooling !== pooling) {
    throw new HubError(
      "unsupported_parameter",
      `Unsupported parameter: 'pooling_type'. The encoder '${served.id}' was trained with '${pooling}'.`,
      { param: "pooling_type" },
    );
  }
  return {
    width: encoder.width,
    vocabSize,
    tokensMax,
    normalizes,
    tokenizer,
    acquire: async () => ({
      adapter: undefined,
      embed: (prompts, signal) => encoder.embed(prompts, signal),
      release: () => {},
    }),
  };
}

/** What is not the adapter's is never answered in its name. */
function expectAdapter(found: string | undefined, asked: string | undefined): void {
  if (found === asked) return;
  const name = (digest: string | undefined) => (digest ? `sha256-${digest}` : "the base");
  throw new HubError(
    "adapter_not_applied",
    `The embedding was computed with ${name(found)} and not with ${name(asked)}.`,
  );
}

/** Results in the order of the items, `max` of which are under way at one time; the first failure cancels the rest. */
async function eachOf<T, R>(
  items: readonly T[],
  { max, signal }: { max: number; signal: AbortSignal },
  run: (item: T, signal: AbortSignal, index: number) => Promise<R>,
): Promise<R[]> {
  const leave = new AbortController();
  const either = anySignal([signal, leave.signal]);
  const results: R[] = [];
  // One iterator for all workers, so that each item is taken once.
  const waiting = items.entries();
  const work = async () => {
    for (const [index, item] of waiting) results[index] = await run(item, either, index);
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
