/**
 * OpenAI's embeddings as Vertex makes them: its older models by `:predict`, several texts at once; Gemini's newer ones by
 * `:embedContent`, one at a time. Which is which is Google's own rule, in `tIsVertexEmbedContentModel` of @google/genai.
 * @see https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api
 */
import { z } from "zod";
import { given, noEmbeddings, textsOf, writeVectors } from "../embeddings.ts";
import type { PassingFormat } from "../format.ts";
import { usageMetadata, vector } from "../gemini/embeddings.ts";
import { parseJson } from "../gemini/response.ts";
import { openAiEmbeddings } from "../openai/format.ts";

export const vertexEmbeddings: PassingFormat = {
  ...openAiEmbeddings,
  readPassing(bytes, head) {
    const answer = vertexAnswer.safeParse(parseJson(Buffer.from(bytes).toString())).data;
    if (!answer) throw noEmbeddings();
    if ("embedding" in answer) {
      const input = answer.usageMetadata?.promptTokenCount ?? undefined;
      return writeVectors([answer.embedding.values], { ...head, input });
    }
    const embeddings = answer.predictions.map((one) => one.embeddings);
    const counts = embeddings.map(({ statistics }) => statistics?.token_count ?? undefined);
    // A sum of some of them is no sum.
    const input = counts.reduce((sum, count) =>
      sum === undefined || count === undefined ? undefined : sum + count,
    );
    return writeVectors(
      embeddings.map(({ values }) => values),
      { ...head, input },
    );
  },
};

/** @throws HubError as `textsOf` does */
export function writeEmbedCall(
  asked: Readonly<Record<string, unknown>>,
  model: string,
): { method: "predict" | "embedContent"; body: Record<string, unknown>; dropped: string[] } {
  const { input, encoding_format: _, dimensions, task_type, title, model: __, ...rest } = asked;
  const outputDimensionality = dimensions ?? undefined;
  const dropped = given(rest);
  if (isAskedByContent(model)) {
    const [text] = textsOf(input, 1);
    const body = {
      content: { role: "user", parts: [{ text }] },
      embedContentConfig: {
        taskType: task_type ?? undefined,
        title: title ?? undefined,
        outputDimensionality,
      },
    };
    return { method: "embedContent", body, dropped };
  }
  const instances = textsOf(input, textsMax).map((content) => ({
    content,
    ...(task_type != null && { task_type }),
    ...(title != null && { title }),
  }));
  return { method: "predict", body: { instances, parameters: { outputDimensionality } }, dropped };
}

function isAskedByContent(model: string): boolean {
  const name = model.slice(model.lastIndexOf("/") + 1);
  return (name.includes("gemini") && name !== "gemini-embedding-001") || name.includes("maas");
}

/** Google's, of the models that take the most. */
const textsMax = 250;

const vertexAnswer = z.union([
  z.object({ embedding: vector, usageMetadata }),
  z.object({
    predictions: z
      .array(
        z.object({
          embeddings: vector.extend({
            statistics: z
              .object({ token_count: z.number().pipe(z.int().nonnegative()).nullish() })
              .nullish()
              .catch(undefined),
          }),
        }),
      )
      .min(1),
  }),
]);
