/** `POST /v1/completions` and `/v1/embeddings`, as the OpenAPI document tells them. */
import { z } from "zod";
import { chatUsage } from "../../../sdk/protocol/chat.ts";
import {
  json,
  modelCodes,
  type Operation,
  streamedEvent,
} from "../../../sdk/protocol/openapi/operation.ts";
import { completionsRequest, embeddingsRequest } from "./request.ts";

const completion = z.looseObject({
  id: z.string(),
  object: z.literal("text_completion"),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.looseObject({ index: z.int(), text: z.string(), finish_reason: z.string().nullable() }),
  ),
  usage: chatUsage.nullish(),
});
const embeddings = z.looseObject({
  object: z.literal("list"),
  data: z.array(
    z.looseObject({
      object: z.literal("embedding"),
      index: z.int(),
      /** Numbers, or float32 in base64. */
      embedding: z.union([z.array(z.number()), z.string()]),
    }),
  ),
  model: z.string(),
});

export const passingOperations: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/completions",
    id: "createCompletion",
    tag: "OpenAI",
    summary: "Continues a text, whole or as a stream of chunks",
    access: "project",
    body: {
      schema: completionsRequest,
      example: { model: "support-tiny", prompt: "Hello", max_tokens: 16 },
    },
    answers: {
      200: {
        says: "The text; with `stream: true` its chunks, and `[DONE]` at the end.",
        content: { "application/json": completion, "text/event-stream": streamedEvent },
      },
    },
    codes: modelCodes,
  },
  {
    method: "post",
    path: "/v1/embeddings",
    id: "createEmbedding",
    tag: "OpenAI",
    summary: "Vectors of texts",
    access: "project",
    body: { schema: embeddingsRequest, example: { model: "support-tiny", input: "Hello" } },
    answers: { 200: json("The vectors, in the order of the texts.", embeddings) },
    codes: modelCodes,
  },
];
