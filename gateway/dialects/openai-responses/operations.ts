/** `/v1/responses`, as the OpenAPI document tells it. */
import { z } from "zod";
import {
  databaseCodes,
  json,
  modelCodes,
  type Operation,
  streamedEvent,
} from "../../../sdk/protocol/openapi/operation.ts";
import { streamQuery } from "../../background/routes.ts";
import { pageQuery } from "../../kept/pages.ts";
import { compactBody, responsesBody } from "./schema.ts";

export const response = z.looseObject({
  id: z.string(),
  object: z.literal("response"),
  status: z.string(),
  model: z.string(),
  output: z.array(z.looseObject({ type: z.string() })),
});
const deleted = z.looseObject({
  id: z.string(),
  object: z.literal("response"),
  deleted: z.literal(true),
});
const items = z.looseObject({
  object: z.literal("list"),
  data: z.array(z.looseObject({ id: z.string(), type: z.string() })),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});
const found = [...databaseCodes, "not_found", "unknown_url"] as const;

export const responsesOperations: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/responses",
    id: "createResponse",
    tag: "OpenAI",
    summary: "Answers, whole or as a stream of events; kept unless `store` is false",
    access: "project",
    body: { schema: responsesBody, example: { model: "auto", input: "Say hello." } },
    answers: {
      200: {
        says: "The response; with `stream: true` its events.",
        content: { "application/json": response, "text/event-stream": streamedEvent },
      },
    },
    codes: [...modelCodes, "not_found"],
  },
  {
    method: "get",
    path: "/v1/responses/{id}",
    id: "retrieveResponse",
    tag: "OpenAI",
    summary: "A response that was kept; of one that ran in the background its events, too",
    access: "project",
    query: streamQuery,
    answers: {
      200: {
        says: "The response; with `stream=true` its events after `starting_after`.",
        content: { "application/json": response, "text/event-stream": streamedEvent },
      },
    },
    codes: found,
  },
  {
    method: "delete",
    path: "/v1/responses/{id}",
    id: "deleteResponse",
    tag: "OpenAI",
    summary: "Forgets a response",
    access: "project",
    answers: { 200: json("It is gone.", deleted) },
    codes: found,
  },
  {
    method: "post",
    path: "/v1/responses/{id}/cancel",
    id: "cancelResponse",
    tag: "OpenAI",
    summary: "Ends a response that runs in the background",
    access: "project",
    answers: { 200: json("The response as it is now.", response) },
    codes: [...found, "invalid_value"],
  },
  {
    method: "post",
    path: "/v1/responses/input_tokens",
    id: "countResponseTokens",
    tag: "OpenAI",
    summary: "How many tokens a response would read",
    access: "project",
    body: { schema: responsesBody, example: { model: "auto", input: "Say hello." } },
    answers: {
      200: json(
        "The count.",
        z.looseObject({ object: z.literal("response.input_tokens"), input_tokens: z.int() }),
      ),
    },
    codes: [...modelCodes, "not_found"],
  },
  {
    method: "post",
    path: "/v1/responses/compact",
    id: "compactResponse",
    tag: "OpenAI",
    summary: "Sums a conversation up, as one item that stands for it in later requests",
    access: "project",
    body: { schema: compactBody, example: { model: "auto", input: "Say hello." } },
    answers: {
      200: json(
        "The item, and what it took to make it.",
        z.looseObject({
          object: z.literal("response.compaction"),
          output: z.array(z.looseObject({ type: z.string() })),
        }),
      ),
    },
    codes: modelCodes,
  },
  {
    method: "get",
    path: "/v1/responses/{id}/input_items",
    id: "listInputItems",
    tag: "OpenAI",
    summary: "What a response answered, a page of it",
    access: "project",
    query: pageQuery,
    answers: { 200: json("The items.", items) },
    codes: found,
  },
];
