/**
 * OpenAI's embeddings as models on Bedrock make them, by InvokeModel: each maker's models have a body of their own.
 * @see https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
 * @see https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html
 */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { writeEmbedBody as writeCohereBody } from "../cohere/embeddings.ts";
import { given, noEmbeddings, textsOf, writeVectors } from "../embeddings.ts";
import type { PassingFormat } from "../format.ts";
import { openAiEmbeddings } from "../openai/format.ts";
import { parseJson } from "./response.ts";

export const bedrockEmbeddings: PassingFormat = {
  ...openAiEmbeddings,
  readPassing(bytes, head) {
    const json = parseJson(bytes);
    const titan = titanAnswer.safeParse(json).data;
    if (titan) {
      return writeVectors([titan.embedding], { ...head, input: titan.inputTextTokenCount });
    }
    const cohere = cohereAnswer.safeParse(json).data;
    if (!cohere) throw noEmbeddings();
    // Only a header of Bedrock's tells what these have read.
    const told = head.header?.("x-amzn-bedrock-input-token-count");
    const input = told !== undefined && /^\d{1,15}$/.test(told) ? Number(told) : undefined;
    return writeVectors(cohere.embeddings, { ...head, input });
  },
};

/**
 * @param model as Bedrock names it, a region before it or not
 * @throws HubError `unsupported_model` for makers that are not known; as `textsOf` does
 */
export function writeInvokeBody(
  asked: Readonly<Record<string, unknown>>,
  model: string,
): { body: Record<string, unknown>; dropped: string[] } {
  if (/\bcohere\.embed-/.test(model)) {
    const { body, dropped } = writeCohereBody({ ...asked, encoding_format: "float" }, model);
    const { model: _, ...sent } = body;
    return { body: sent, dropped };
  }
  if (/\bamazon\.titan-embed-text-v/.test(model)) {
    const { input, encoding_format: _, dimensions, normalize, model: __, ...rest } = asked;
    const [inputText] = textsOf(input, 1);
    const body = {
      inputText,
      ...(dimensions != null && { dimensions }),
      ...(normalize != null && { normalize }),
    };
    return { body, dropped: given(rest) };
  }
  throw new HubError(
    "unsupported_model",
    `The model '${model}' makes no embeddings here: on Bedrock those of 'amazon.titan-embed-text' and 'cohere.embed' are known.`,
    { param: "model" },
  );
}

const floats = z.array(z.number());
const titanAnswer = z.object({
  embedding: floats,
  inputTextTokenCount: z.int().nonnegative().optional().catch(undefined),
});
/** The list alone where one kind was asked for of older models, else by kinds. */
const cohereAnswer = z.object({
  embeddings: z.union([
    z.array(floats),
    z.object({ float: z.array(floats) }).transform(({ float }) => float),
  ]),
});
