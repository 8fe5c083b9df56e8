/** Stored chat completions, as the OpenAPI document tells them. */
import { z } from "zod";
import { listOf } from "../../sdk/protocol/openapi/lists.ts";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";
import { chatCompletion } from "../dialects/openai-chat/operations.ts";
import { pageQuery } from "../kept/pages.ts";
import { changedCompletion } from "./routes.ts";

const message = z.looseObject({ id: z.string(), role: z.string() });
const deleted = z.looseObject({
  id: z.string(),
  object: z.literal("chat.completion.deleted"),
  deleted: z.literal(true),
});
const shared = { tag: "OpenAI", access: "project" } as const;
const found = [...databaseCodes, "not_found", "unknown_url"] as const;

export const storedCompletionsOperations: readonly Operation[] = [
  {
    ...shared,
    method: "get",
    path: "/v1/chat/completions",
    id: "listChatCompletions",
    summary: "Stored chats by model and `metadata[key]`, a page of them",
    query: pageQuery.extend({ model: z.string().optional() }),
    answers: { 200: json("The completions.", listOf(chatCompletion)) },
    codes: found,
  },
  {
    ...shared,
    method: "get",
    path: "/v1/chat/completions/{id}",
    id: "retrieveChatCompletion",
    summary: "A stored chat",
    answers: { 200: json("The completion.", chatCompletion) },
    codes: found,
  },
  {
    ...shared,
    method: "post",
    path: "/v1/chat/completions/{id}",
    id: "updateChatCompletion",
    summary: "Gives a stored chat other metadata",
    body: { schema: changedCompletion, example: { metadata: { checked: "yes" } } },
    answers: { 200: json("The completion.", chatCompletion) },
    codes: found,
  },
  {
    ...shared,
    method: "delete",
    path: "/v1/chat/completions/{id}",
    id: "deleteChatCompletion",
    summary: "Forgets a stored chat",
    answers: { 200: json("It is gone.", deleted) },
    codes: found,
  },
  {
    ...shared,
    method: "get",
    path: "/v1/chat/completions/{id}/messages",
    id: "listChatCompletionMessages",
    summary: "What a stored chat answered, a page of it",
    query: pageQuery,
    answers: { 200: json("The messages.", listOf(message)) },
    codes: found,
  },
];
