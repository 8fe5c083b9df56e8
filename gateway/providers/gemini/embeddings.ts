/** OpenAI's embeddings as Gemini makes them: their requests and answers are written anew. */
import { z } from "zod";
import { given, noEmbeddings, textsOf, writeVectors } from "../embeddings.ts";
import type { PassingFormat } from "../format.ts";
import { openAiEmbeddings } from "../openai/format.ts";
import { parseJson } from "./response.ts";

export const geminiEmbeddings: PassingFormat = {
  ...openAiEmbeddings,
  readPassing(bytes, head) {
    const answer = vectors.safeParse(parseJson(Buffer.from(bytes).toString())).data;
    if (!answer) throw noEmbeddings();
    const input = answer.usageMetadata?.promptTokenCount ?? undefined;
    return writeVectors(
      answer.embeddings.map(({ values }) => values),
      { ...head, input },
    );
  },
};

/**
 * @param name the model's, as `models/gemini-embedding-001`
 * @throws HubError as `textsOf` does
 */
export function writeEmbedBody(
  asked: Readonly<Record<string, unknown>>,
  name: string,
): { body: Record<string, unknown>; dropped: string[] } {
  const { input, encoding_format: _, dimensions, task_type, model: __, ...rest } = asked;
  const requests = textsOf(input, textsMax).map((text) => ({
    model: name,
    content: { parts: [{ text }] },
    ...(dimensions != null && { outputDimensionality: dimensions }),
    ...(task_type != null && { taskType: task_type }),
  }));
  return { body: { requests }, dropped: given(rest) };
}

/** Google's. */
const textsMax = 100;

/** Older models tell none. */
export const usageMetadata = z
  .object({ promptTokenCount: z.int().nonnegative().nullish() })
  .nullish()
  .catch(undefined);
export const vector = z.object({ values: z.array(z.number()) });
const vectors = z.object({ embeddings: z.array(vector).min(1), usageMetadata });
