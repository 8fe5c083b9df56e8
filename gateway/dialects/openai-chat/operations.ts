/** `POST /v1/chat/completions`, as the OpenAPI document tells it. */
import { z } from "zod";
import { chatRequest, chatUsage } from "../../../sdk/protocol/chat.ts";
import {
  modelCodes,
  type Operation,
  streamedEvent,
} from "../../../sdk/protocol/openapi/operation.ts";

const choice = z.looseObject({
  index: z.int(),
  message: z.looseObject({
    role: z.literal("assistant"),
    content: z.string().nullish(),
    refusal: z.string().nullish(),
    tool_calls: z.array(z.looseObject({ id: z.string(), type: z.string() })).optional(),
  }),
  finish_reason: z.string().nullable(),
});

export const chatCompletion = z.looseObject({
  id: z.string(),
  object: z.literal("chat.completion"),
  created: z.int(),
  model: z.string(),
  choices: z.array(choice),
  usage: chatUsage.nullish(),
});

export const chatOperations: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/chat/completions",
    id: "createChatCompletion",
    tag: "OpenAI",
    summary: "Answers a chat, whole or as a stream of chunks",
    access: "project",
    body: {
      schema: chatRequest,
      example: { model: "auto", messages: [{ role: "user", content: "Say hello." }] },
    },
    answers: {
      200: {
        says: "The answer; with `stream: true` its chunks, and `[DONE]` at the end.",
        content: { "application/json": chatCompletion, "text/event-stream": streamedEvent },
      },
    },
    codes: modelCodes,
  },
];
