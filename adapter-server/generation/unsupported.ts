/** What a request may say beside what is computed: nothing that would change the answer is ignored in silence. */
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";

/**
 * @param computed the names of the fields that are read elsewhere
 * @throws HubError `unsupported_parameter` for what we know and do not compute, `invalid_value` for a name
 *   that neither OpenAI nor vLLM has, which is a slip of the pen
 */
export function refuseUnsupported(
  request: Record<string, unknown>,
  computed: ReadonlySet<string>,
): void {
  for (const [field, value] of Object.entries(request)) {
    if (computed.has(field) || bookkeeping.has(field) || value === undefined) continue;
    const isHarmless = harmlessValues.get(field);
    if (!isHarmless) {
      const param = field.slice(0, 100);
      throw new HubError("invalid_value", `Unknown parameter: '${param}'.`, { param });
    }
    if (value !== null && !isHarmless(value)) throw unsupported(field);
  }
}

export function unsupported(param: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}' is not supported with this model.`,
    { param },
  );
}

type Test = (value: unknown) => boolean;
const isEmpty: Test = (value) =>
  typeof value === "object" && value !== null && Object.keys(value).length === 0;
const is =
  (...values: unknown[]): Test =>
  (value) =>
    values.includes(value);
const never: Test = () => false;

/** About billing, storage, abuse and speed: no answer depends on them. */
const bookkeeping: ReadonlySet<string> = new Set([
  "metadata",
  "prediction",
  "prompt_cache_key",
  "prompt_cache_retention",
  "request_id",
  "safety_identifier",
  "service_tier",
  "store",
  "user",
]);

/** Fields of OpenAI and vLLM, and which of their values ask for nothing that we do not do. */
const harmlessValues: ReadonlyMap<string, Test> = new Map(
  Object.entries<Test>({
    add_special_tokens: is(false),
    audio: never,
    best_of: is(1),
    chat_template: never,
    documents: isEmpty,
    echo: is(false),
    function_call: is("none", "auto"),
    functions: isEmpty,
    length_penalty: is(1),
    logits_processors: isEmpty,
    modalities: (value) => z.tuple([z.literal("text")]).safeParse(value).success,
    reasoning_effort: is("none", "minimal"),
    return_token_ids: is(false),
    return_tokens_as_token_ids: is(false),
    spaces_between_special_tokens: is(true),
    suffix: is(""),
    use_beam_search: is(false),
    verbosity: is("medium"),
    web_search_options: never,
  }),
);
