/** OpenAI's embeddings as Cohere makes them: their requests and answers are written anew. */
import { given, textsOf, writeVectors } from "../embeddings.ts";
import type { PassingFormat } from "../format.ts";
import { openAiEmbeddings } from "../openai/format.ts";
import { noAnswer, parseJson } from "./response.ts";
import { cohereVectors } from "./schema.ts";

export const cohereEmbeddings: PassingFormat = {
  ...openAiEmbeddings,
  readPassing(bytes, head) {
    const json = parseJson(bytes);
    const answer = cohereVectors.safeParse(json);
    const vectors = answer.data?.embeddings.base64 ?? answer.data?.embeddings.float;
    if (!vectors) throw noAnswer(json, "no embeddings");
    const { billed_units, tokens } = answer.data?.meta ?? {};
    const input = billed_units?.input_tokens ?? tokens?.input_tokens ?? undefined;
    return writeVectors(vectors, { ...head, input });
  },
};

/**
 * What the texts are for decides their vectors; a client that says nothing wants to keep them.
 * @throws HubError as `textsOf` does
 */
export function writeEmbedBody(
  asked: Readonly<Record<string, unknown>>,
  model: string,
): { body: Record<string, unknown>; dropped: string[] } {
  const { input, encoding_format, dimensions, input_type, truncate, model: _, ...rest } = asked;
  const texts = textsOf(input, textsMax);
  return {
    body: {
      model,
      texts,
      input_type: input_type ?? "search_document",
      embedding_types: [encoding_format === "base64" ? "base64" : "float"],
      ...(dimensions != null && { output_dimension: dimensions }),
      ...(truncate != null && { truncate }),
    },
    dropped: given(rest),
  };
}

const textsMax = 96;
