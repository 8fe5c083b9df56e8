/** `POST /v1/messages` and `/v1/messages/count_tokens`, as the OpenAPI document tells them. */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import {
  type ErrorShape,
  json,
  modelCodes,
  type Operation,
  streamedEvent,
} from "../../../sdk/protocol/openapi/operation.ts";
import { anthropicStatus } from "./errors.ts";
import { countRequest, messagesRequest } from "./schema.ts";

const errors: ErrorShape = {
  name: "AnthropicError",
  schema: z.looseObject({
    type: z.literal("error"),
    error: z.looseObject({ type: z.string(), message: z.string() }),
    request_id: z.string().optional(),
  }),
  statusOf: (code) => anthropicStatus(new HubError(code, "")),
  keyHeader: "x-api-key",
};

const message = z.looseObject({
  id: z.string(),
  type: z.literal("message"),
  role: z.literal("assistant"),
  model: z.string(),
  content: z.array(z.looseObject({ type: z.string() })),
  stop_reason: z.string().nullable(),
  usage: z.looseObject({ input_tokens: z.int().nullish(), output_tokens: z.int().nullish() }),
});
const messages = [{ role: "user", content: "Say hello." }];

export const messagesOperations: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/messages",
    id: "createMessage",
    tag: "Anthropic",
    summary: "Answers messages, whole or as a stream of events",
    access: "project",
    body: { schema: messagesRequest, example: { model: "auto", max_tokens: 32, messages } },
    answers: {
      200: {
        says: "The message; with `stream: true` its events.",
        content: { "application/json": message, "text/event-stream": streamedEvent },
      },
    },
    codes: modelCodes,
    errors,
  },
  {
    method: "post",
    path: "/v1/messages/count_tokens",
    id: "countMessageTokens",
    tag: "Anthropic",
    summary: "Counts a message's tokens; `x-switchyard-counted-by` tells how exactly",
    access: "project",
    body: { schema: countRequest, example: { model: "auto", messages } },
    answers: { 200: json("The count.", z.looseObject({ input_tokens: z.int() })) },
    codes: modelCodes,
    errors,
  },
];
