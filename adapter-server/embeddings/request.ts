/** An embeddings request, checked; what we cannot do is refused by name. */
import { z } from "zod";
import { embeddingsRequest } from "../../sdk/protocol/embeddings.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { type Pooling, poolings } from "../engine/pooling.ts";
import { adapterMix, readTarget, type Target } from "../generation/target.ts";
import { refuseUnsupported } from "../generation/unsupported.ts";

export type EmbeddingsPlan = {
  /** As the client wrote it, for the answer. */
  model: string;
  target: Target;
  /** Texts, or tokens. */
  inputs: readonly (string | readonly number[])[];
  encoding: "float" | "base64";
  dimensions: number | undefined;
  /** Absent: as the server is set. */
  pooling: Pooling | undefined;
  /** Whether vectors get a length of 1; absent: as the model's own last step. */
  normalizes: boolean | undefined;
  /** Whether texts get the tokens that the tokenizer sets at their start and end. */
  addSpecialTokens: boolean;
};

/**
 * @param limits `baseId` is what clients call the base model
 * @throws HubError that names the field
 */
export function readEmbeddingsRequest(
  body: unknown,
  limits: { baseId: string; mixPartsMax: number; embeddingInputsMax: number },
): EmbeddingsPlan {
  const request = parseOrThrow(extendedRequest, body);
  refuseUnsupported(request, computed);
  const inputs = readInputs(request.input);
  if (inputs.length > limits.embeddingInputsMax) {
    throw new HubError(
      "number_out_of_range",
      `Invalid 'input': ${inputs.length} inputs were given, and at most ${limits.embeddingInputsMax} are embedded in one request. Send them in several.`,
      { param: "input" },
    );
  }
  return {
    model: request.model,
    target: readTarget(request, limits),
    inputs,
    encoding: request.encoding_format ?? "float",
    dimensions: request.dimensions ?? undefined,
    pooling: request.pooling_type ?? undefined,
    normalizes: request.use_activation ?? request.normalize ?? undefined,
    addSpecialTokens: request.add_special_tokens ?? true,
  };
}

function readInputs(input: ExtendedRequest["input"]): EmbeddingsPlan["inputs"] {
  if (typeof input === "string") return [input];
  // A list of numbers is one input, a list of texts or of lists is several.
  const isTokens = (list: typeof input): list is number[] => typeof list[0] === "number";
  return isTokens(input) ? [input] : input;
}

const extendedRequest = embeddingsRequest.extend({
  adapters: adapterMix,
  /** vLLM sets it for a whole server, as `LAST` or `MEAN`; here a request may as well. */
  pooling_type: z
    .string()
    .transform((name) => name.toLowerCase())
    .pipe(z.enum(poolings))
    .nullish(),
  /** vLLM's two names for the same. */
  normalize: z.boolean().nullish(),
  use_activation: z.boolean().nullish(),
  add_special_tokens: z.boolean().nullish(),
  /** vLLM's, of which one value each is computed. */
  embed_dtype: z.literal("float32").nullish(),
  endianness: z.enum(["native", "little"]).nullish(),
});
const computed: ReadonlySet<string> = new Set(Object.keys(extendedRequest.shape));
type ExtendedRequest = z.infer<typeof extendedRequest>;
