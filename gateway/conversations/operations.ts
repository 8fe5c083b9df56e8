/** `/v1/conversations`, as the OpenAPI document tells it. */
import { z } from "zod";
import { listOf } from "../../sdk/protocol/openapi/lists.ts";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";
import { pageQuery } from "../kept/pages.ts";
import { changedConversation, newConversation, newItems } from "./routes.ts";

export const conversation = z.looseObject({
  id: z.string(),
  object: z.literal("conversation"),
  created_at: z.int(),
  metadata: z.record(z.string(), z.string()),
});
const item = z.looseObject({ id: z.string(), type: z.string() });
const deleted = z.looseObject({
  id: z.string(),
  object: z.literal("conversation.deleted"),
  deleted: z.literal(true),
});
const shared = { tag: "OpenAI", access: "project" } as const;
const kept = [...databaseCodes, "unknown_url"] as const;
const found = [...kept, "not_found"] as const;
const items = [{ role: "user", content: "Where is my parcel?" }];

export const conversationsOperations: readonly Operation[] = [
  {
    ...shared,
    method: "post",
    path: "/v1/conversations",
    id: "createConversation",
    summary: "Begins a conversation that requests can name",
    body: { schema: newConversation, example: { items } },
    answers: { 200: json("The conversation.", conversation) },
    codes: kept,
  },
  {
    ...shared,
    method: "get",
    path: "/v1/conversations/{id}",
    id: "retrieveConversation",
    summary: "A conversation, without what was said in it",
    answers: { 200: json("The conversation.", conversation) },
    codes: found,
  },
  {
    ...shared,
    method: "post",
    path: "/v1/conversations/{id}",
    id: "updateConversation",
    summary: "Gives a conversation other metadata",
    body: { schema: changedConversation, example: { metadata: { topic: "parcels" } } },
    answers: { 200: json("The conversation.", conversation) },
    codes: found,
  },
  {
    ...shared,
    method: "delete",
    path: "/v1/conversations/{id}",
    id: "deleteConversation",
    summary: "Forgets a conversation and what was said in it",
    answers: { 200: json("It is gone.", deleted) },
    codes: found,
  },
  {
    ...shared,
    method: "get",
    path: "/v1/conversations/{id}/items",
    id: "listConversationItems",
    summary: "What was said in a conversation, a page of it",
    query: pageQuery,
    answers: { 200: json("The items.", listOf(item)) },
    codes: found,
  },
  {
    ...shared,
    method: "post",
    path: "/v1/conversations/{id}/items",
    id: "createConversationItems",
    summary: "Adds to a conversation",
    body: { schema: newItems, example: { items } },
    answers: { 200: json("The items, each with its id.", listOf(item)) },
    codes: found,
  },
  {
    ...shared,
    method: "get",
    path: "/v1/conversations/{id}/items/{item}",
    id: "retrieveConversationItem",
    summary: "One item of a conversation",
    answers: { 200: json("The item.", item) },
    codes: found,
  },
  {
    ...shared,
    method: "delete",
    path: "/v1/conversations/{id}/items/{item}",
    id: "deleteConversationItem",
    summary: "Takes an item out of a conversation",
    answers: { 200: json("The conversation.", conversation) },
    codes: found,
  },
];
