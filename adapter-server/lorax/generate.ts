/** LoRAX's routes: what they read, and how the engine answers. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Caller, cutPrompt, type GenerationParts, generate } from "../generation/generate.ts";
import type { GenerationLimits } from "../generation/plan.ts";
import { contextLengthOf } from "../parts.ts";
import { toGeneration, toTokenFrames } from "./answer.ts";
import { readLoraxRequest } from "./request.ts";

/**
 * @param limits  what a request may ask for
 * @param variant the route: `/generate`, `/generate_stream`, or `/`, which streams when the body says so and else
 *   answers with a list
 * @throws HubError whatever fails before the first token
 */
export async function answerLorax(
  parts: GenerationParts,
  body: unknown,
  {
    limits,
    variant,
    caller,
  }: {
    limits: GenerationLimits;
    variant: "whole" | "stream" | "either";
    caller: Caller;
  },
): Promise<Response> {
  const { model, newSeed } = parts;
  const startMs = parts.monotonicMs();
  const stream = variant === "either" ? undefined : variant === "stream";
  const plan = readLoraxRequest(body, { ...limits, newSeed }, stream);
  const all = model.tokenizer.encode(plan.inputs, { addSpecialTokens: true });
  const prompt = cutPrompt(parts, all, plan);
  if (prompt.length === 0) {
    throw new HubError("invalid_value", "Invalid 'inputs': it has no tokens.", { param: "inputs" });
  }
  const head = { plan, prompt, endTokenIds: model.endTokenIds, tokenizer: model.tokenizer };
  return generate(
    parts,
    { plan, prompts: [prompt], caller, startMs },
    {
      whole: async (pieces) => {
        const generation = await toGeneration(head, pieces);
        return variant === "either" ? [generation] : generation;
      },
      frames: (pieces) => toTokenFrames(head, pieces),
    },
  );
}

/** `GET /info`, as far as it is true of this server. */
export function loraxInfo({ model, engine, limits, version }: GenerationParts) {
  const length = contextLengthOf(engine);
  return {
    model_id: model.id,
    model_sha: null,
    model_dtype: model.fingerprint,
    model_device_type: "cpu",
    model_pipeline_tag: "text-generation",
    max_concurrent_requests: limits.sequencesMax + limits.waitingMax,
    max_best_of: limits.choicesMax,
    max_stop_sequences: limits.stopsMax,
    max_input_length: length - 1,
    max_total_tokens: length,
    max_batch_total_tokens: limits.kvCacheTokens,
    version,
    sha: null,
    docker_label: null,
    eager_prefill: false,
  };
}
