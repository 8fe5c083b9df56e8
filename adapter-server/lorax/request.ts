/**
 * A request as LoRAX and text-generation-inference take it, checked and in the engine's terms; what we cannot do, or
 * not exactly, is refused by name.
 * @see https://github.com/predibase/lorax/blob/main/router/src/lib.rs, `GenerateParameters`
 */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { type GenerationLimits, type GenerationPlan, readGeneration } from "../generation/plan.ts";
import { unsupported } from "../generation/unsupported.ts";

export type LoraxPlan = GenerationPlan & {
  inputs: string;
  /** What draws began with; absent where the likeliest token is taken. */
  seed: number | undefined;
  /** Whether each token and what ended them is told beside the text. */
  details: boolean;
  /** Whether the prompt's tokens are. */
  promptDetails: boolean;
  /** How many likely tokens are told beside each. */
  alternatives: number | undefined;
  returnsFullText: boolean;
};

export type LoraxLimits = GenerationLimits & {
  /** Where a request that draws gives no seed. */
  newSeed: () => number;
};

/**
 * @param stream where the route decides it; else the body does
 * @throws HubError that names the field
 */
export function readLoraxRequest(
  body: unknown,
  { newSeed, ...limits }: LoraxLimits,
  stream?: boolean,
): LoraxPlan {
  const request = parseOrThrow(loraxRequest, body);
  const parameters = request.parameters ?? {};
  refuse(parameters);
  const streams = stream ?? request.stream ?? false;
  const draws = isDrawn(parameters);
  const seed = draws ? (parameters.seed ?? newSeed()) : undefined;
  const details = streams || parameters.details === true;
  const promptDetails = parameters.decoder_input_details === true;
  const alternatives = parameters.return_k_alternatives ?? (parameters.top_n_tokens || undefined);
  const choices = readBestOf(parameters, { streams, draws, choicesMax: limits.choicesMax });
  if (streams && promptDetails) throw unsupported("parameters.decoder_input_details");
  const needsLogprobs = details || promptDetails || choices > 1;
  const plan = readGeneration(
    {
      ...readWeights(parameters, limits.baseId),
      ...readForm(parameters),
      n: choices,
      stream: streams,
      // What a model's own settings suggest is not asked for here: without a temperature nothing is drawn.
      temperature: draws ? (parameters.temperature ?? 1) : 0,
      top_p: parameters.top_p ?? 1,
      top_k: parameters.top_k ?? 0,
      repetition_penalty: parameters.repetition_penalty ?? 1,
      frequency_penalty: parameters.frequency_penalty ?? 0,
      presence_penalty: parameters.presence_penalty ?? 0,
      seed: seed ?? null,
      stop: parameters.stop ?? [],
      // Both leave what ended the text in it.
      include_stop_str_in_output: true,
      ignore_eos: parameters.ignore_eos_token ?? false,
      truncate_prompt_tokens: parameters.truncate ?? null,
      prompt_logprobs: promptDetails ? 0 : null,
    },
    limits,
    {
      promptField: "inputs",
      maxTokens: parameters.max_new_tokens ?? undefined,
      logprobs: needsLogprobs ? (alternatives ?? 0) : undefined,
    },
  );
  const returnsFullText = parameters.return_full_text ?? false;
  const { inputs } = request;
  return { ...plan, inputs, seed, details, promptDetails, alternatives, returnsFullText };
}

function isDrawn({ do_sample, temperature, top_k, top_p }: Parameters): boolean {
  if (temperature === 0) return false;
  return do_sample === true || [temperature, top_k, top_p].some((value) => value != null);
}

/** @throws HubError for what would change the answer and is not computed */
function refuse({ typical_p, adapter_source, ...parameters }: Parameters): void {
  if (typical_p != null && typical_p !== 1) throw unsupported("parameters.typical_p");
  for (const name of ["watermark", "apply_chat_template"] as const) {
    if (parameters[name] != null && parameters[name] !== false)
      throw unsupported(`parameters.${name}`);
  }
  if (adapter_source == null || adapter_source === "local") return;
  throw new HubError(
    "unsupported_parameter",
    "Unsupported parameter: 'parameters.adapter_source'. Adapters are loaded by operators, and fetched from nowhere that a request names; leave it out.",
    { param: "parameters.adapter_source" },
  );
}

function readBestOf(
  { best_of, seed }: Parameters,
  { streams, draws, choicesMax }: { streams: boolean; draws: boolean; choicesMax: number },
): number {
  const choices = best_of ?? 1;
  if (choices === 1) return 1;
  const param = "parameters.best_of";
  if (choices > choicesMax) {
    throw new HubError(
      "number_out_of_range",
      `Invalid '${param}': expected at most ${choicesMax}.`,
      {
        param,
      },
    );
  }
  const why = streams
    ? "a stream has one sequence"
    : draws
      ? "all sequences would begin with the same seed"
      : "nothing is drawn; set 'temperature' or 'do_sample'";
  if (!streams && draws && seed == null) return choices;
  throw new HubError("invalid_value", `Invalid '${param}': ${why}.`, { param });
}

/** Which weights: the base, an adapter, or an exact weighted sum of some. */
function readWeights(
  { adapter_id, merged_adapters, adapter_parameters }: Parameters,
  baseId: string,
): { model: string; adapters?: { model: string; weight: number }[] } {
  const merged = merged_adapters ?? adapter_parameters;
  if (merged == null) return { model: adapter_id || baseId };
  const param = merged_adapters ? "parameters.merged_adapters" : "parameters.adapter_parameters";
  if (adapter_id) {
    throw new HubError("invalid_value", `Give 'parameters.adapter_id' or '${param}', not both.`, {
      param: "parameters.adapter_id",
    });
  }
  const { ids, adapter_ids, weights, merge_strategy } = merged;
  // The others drop or reweigh values by chance and size; an exact sum is all that several requests can share.
  if (merge_strategy != null && merge_strategy !== "linear") {
    throw unsupported(`${param}.merge_strategy`);
  }
  const names = ids ?? adapter_ids ?? [];
  const all = weights == null || weights.length === 0 ? names.map(() => 1) : weights;
  if (names.length === 0 || all.length !== names.length) {
    throw new HubError("invalid_value", `Invalid '${param}': expected a weight for each adapter.`, {
      param,
    });
  }
  const adapters = names.map((model, index) => ({ model, weight: all[index] ?? 1 }));
  return { model: baseId, adapters };
}

/** The output's form, as the shared reader takes it. */
function readForm({ response_format: format, grammar }: Parameters) {
  const schema = format?.schema ?? (grammar?.type === "json" ? grammar.value : undefined);
  if (grammar?.type === "regex") return { guided_regex: grammar.value };
  if (!format && !grammar) return {};
  return {
    response_format: schema
      ? { type: "json_schema" as const, json_schema: { name: "output", schema } }
      : { type: "json_object" as const },
  };
}

const jsonSchema = z.record(z.string(), z.unknown());
const adapterName = z.string().max(512);
const mergedAdapters = z
  .looseObject({
    ids: z.array(adapterName.min(1)).nullish(),
    adapter_ids: z.array(adapterName.min(1)).nullish(),
    weights: z.array(z.number().min(-16).max(16)).nullish(),
    merge_strategy: z.string().nullish(),
  })
  .nullish();

const parametersOf = z.strictObject({
  adapter_id: adapterName.nullish(),
  adapter_source: z.string().nullish(),
  /** Of no use: nothing is fetched for a request. */
  api_token: z.string().nullish(),
  merged_adapters: mergedAdapters,
  adapter_parameters: mergedAdapters,
  best_of: z.int().min(1).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_k: z.int().min(1).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  typical_p: z.number().gt(0).max(1).nullish(),
  do_sample: z.boolean().nullish(),
  repetition_penalty: z.number().min(0.01).max(100).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  max_new_tokens: z
    .int()
    .min(1)
    .max(1 << 24)
    .nullish(),
  ignore_eos_token: z.boolean().nullish(),
  stop: z.array(z.string().min(1).max(1024)).nullish(),
  seed: z.int().min(0).nullish(),
  truncate: z.int().min(1).nullish(),
  return_full_text: z.boolean().nullish(),
  details: z.boolean().nullish(),
  decoder_input_details: z.boolean().nullish(),
  return_k_alternatives: z.int().min(1).max(20).nullish(),
  watermark: z.boolean().nullish(),
  response_format: z
    .strictObject({ type: z.literal("json_object"), schema: jsonSchema.nullish() })
    .nullish(),
  apply_chat_template: z.boolean().nullish(),
  /** text-generation-inference's names for `return_k_alternatives` and `response_format`. */
  top_n_tokens: z.int().min(0).max(20).nullish(),
  grammar: z
    .discriminatedUnion("type", [
      z.strictObject({ type: z.literal("json"), value: jsonSchema }),
      z.strictObject({ type: z.literal("regex"), value: z.string().min(1) }),
    ])
    .nullish(),
});
type Parameters = z.infer<typeof parametersOf>;

const loraxRequest = z.object({
  inputs: z.string().min(1),
  parameters: parametersOf.nullish(),
  stream: z.boolean().nullish(),
});
