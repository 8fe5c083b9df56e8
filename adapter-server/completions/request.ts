/** A text completion request, checked: what it asks for, in the engine's terms; what we cannot do is refused by name. */
import { z } from "zod";
import { textCompletionRequest } from "../../sdk/protocol/completions.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import {
  type GenerationLimits,
  type GenerationPlan,
  generationFields,
  readGeneration,
} from "../generation/plan.ts";
import { refuseUnknownTokens } from "../generation/sampling.ts";
import { refuseUnsupported } from "../generation/unsupported.ts";

export type TextPlan = GenerationPlan & {
  /** Texts, or tokens. */
  prompts: readonly (string | readonly number[])[];
  /** Whether texts get the tokens that the tokenizer sets at their start and end. */
  addSpecialTokens: boolean;
  /** Whether the text begins with the prompt, and log-probabilities with the prompt's. */
  echo: boolean;
  /** How many of the likeliest tokens `prompt_logprobs` shows; absent: there is no such field. */
  shownPromptLogprobs: number | undefined;
};

export type TextLimits = GenerationLimits & { promptsMax: number };

/** @throws HubError that names the field */
export function readTextRequest(body: unknown, limits: TextLimits): TextPlan {
  const request = parseOrThrow(extendedRequest, body);
  refuseUnsupported(request, computed);
  const { logprobs, best_of, n } = request;
  if (best_of != null && best_of !== (n ?? 1)) {
    throw new HubError(
      "unsupported_parameter",
      "Unsupported parameter: 'best_of' is served only where it equals 'n'.",
      { param: "best_of" },
    );
  }
  const maxTokens = request.max_tokens ?? maxTokensDefault;
  const echo = request.echo ?? false;
  if (maxTokens === 0 && !echo && request.prompt_logprobs == null) {
    throw new HubError(
      "number_out_of_range",
      "Invalid 'max_tokens': expected at least 1, or 'echo' to score the prompt alone.",
      { param: "max_tokens" },
    );
  }
  const plan = readGeneration(request, limits, {
    promptField: "prompt",
    maxTokens,
    logprobs: logprobs ?? undefined,
  });
  const prompts = readPrompts(request.prompt, limits);
  return {
    ...plan,
    prompts,
    echo,
    addSpecialTokens: request.add_special_tokens ?? true,
    shownPromptLogprobs: plan.promptLogprobs,
    promptLogprobs: mostOf(plan.promptLogprobs, echo ? plan.logprobs : undefined),
  };
}

/** What the engine is asked for, of which each part of the answer shows as much as it should. */
function mostOf(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.max(a, b);
}

function readPrompts(prompt: TextRequest["prompt"], limits: TextLimits): TextPlan["prompts"] {
  // A list of numbers is one prompt, a list of texts or of lists is several.
  const isTokens = (list: typeof prompt): list is number[] => typeof list[0] === "number";
  const prompts = typeof prompt === "string" || isTokens(prompt) ? [prompt] : prompt;
  if (prompts.length > limits.promptsMax) {
    throw new HubError(
      "number_out_of_range",
      `Invalid 'prompt': ${prompts.length} prompts were given, and at most ${limits.promptsMax} are completed in one request. Send them in several.`,
      { param: "prompt" },
    );
  }
  for (const one of prompts) {
    if (typeof one !== "string") refuseUnknownTokens(one, limits.vocabSize, "prompt");
  }
  return prompts;
}

const extendedRequest = textCompletionRequest.extend({
  ...generationFields,
  max_tokens: textCompletionRequest.shape.max_tokens,
  add_special_tokens: z.boolean().nullish(),
});
const computed: ReadonlySet<string> = new Set(Object.keys(extendedRequest.shape));
type TextRequest = z.infer<typeof extendedRequest>;

/** OpenAI's. */
const maxTokensDefault = 16;
