/** Everything that is served at the gateway's door, each told beside its routes. */
import { z } from "zod";
import { evalRun } from "../../sdk/protocol/admin.ts";
import * as catalog from "../../sdk/protocol/catalog.ts";
import { measurement, model, price, project, route } from "../../sdk/protocol/catalog.ts";
import { chatRequest } from "../../sdk/protocol/chat.ts";
import { dataset, evalAnswer } from "../../sdk/protocol/evals.ts";
import { evalsOperations } from "../../sdk/protocol/openapi/evals.ts";
import {
  databaseCodes,
  json,
  modelCodes,
  type Operation,
} from "../../sdk/protocol/openapi/operation.ts";
import { organizationOperations } from "../../sdk/protocol/openapi/organization.ts";
import { registryOperations } from "../../sdk/protocol/openapi/registry.ts";
import { batchesOperations } from "../batches/operations.ts";
import { contentOperations } from "../content-log/operations.ts";
import { conversation, conversationsOperations } from "../conversations/operations.ts";
import { messagesOperations } from "../dialects/anthropic-messages/operations.ts";
import { converseOperations } from "../dialects/bedrock-converse/operations.ts";
import { geminiOperations } from "../dialects/gemini/operations.ts";
import { chatCompletion, chatOperations } from "../dialects/openai-chat/operations.ts";
import { mediaOperations } from "../dialects/openai-media/operations.ts";
import { modelCard, modelsOperations } from "../dialects/openai-models/operations.ts";
import { passingOperations } from "../dialects/openai-passing/operations.ts";
import { response, responsesOperations } from "../dialects/openai-responses/operations.ts";
import { explainRequest } from "../explain.ts";
import { filesOperations } from "../files/operations.ts";
import { rehearsal, rehearsed } from "../guardrails/rehearse.ts";
import { reportsOperations, settledRequest } from "../reports/operations.ts";
import { responseCacheOperations } from "../response-cache/operations.ts";
import { storedCompletionsOperations } from "../stored-completions/operations.ts";

const doorOperations: readonly Operation[] = [
  {
    method: "post",
    path: "/api/routes/explain",
    id: "explainRoute",
    tag: "Catalogue",
    summary: "The plan for a chat that is sent nowhere",
    access: "project",
    body: {
      schema: explainRequest,
      example: { model: "auto", messages: [{ role: "user", content: "Say hello." }] },
    },
    answers: { 200: json("The plan.", z.looseObject({ requested: z.string() })) },
    codes: modelCodes,
  },
  {
    method: "post",
    path: "/api/guardrails/test",
    id: "testGuardrails",
    tag: "Catalogue",
    summary: "What the project's guardrails would do to a text that is sent nowhere",
    access: "project",
    body: { schema: rehearsal, example: { text: "Write to ada@example.com.", on: "request" } },
    answers: { 200: json("What each of them would do.", rehearsed) },
    codes: ["request_too_large", "rate_limit_exceeded", ...databaseCodes],
  },
  {
    method: "get",
    path: "/healthz",
    id: "health",
    tag: "Operation",
    summary: "Whether the process runs",
    access: "anyone",
    answers: { 200: json("It does.", z.looseObject({ status: z.literal("ok") })) },
  },
  {
    method: "get",
    path: "/readyz",
    id: "readiness",
    tag: "Operation",
    summary: "Whether the gateway knows its policy",
    access: "anyone",
    answers: {
      200: json(
        "It does.",
        z.looseObject({ status: z.literal("ready"), snapshotVersion: z.int() }),
      ),
    },
    codes: databaseCodes,
  },
  {
    method: "get",
    path: "/metrics",
    id: "metrics",
    tag: "Operation",
    summary: "Figures for Prometheus",
    access: "anyone",
    answers: { 200: { says: "The figures.", content: { "text/plain": z.string() } } },
  },
  {
    method: "get",
    path: "/openapi.json",
    id: "openapi",
    tag: "Operation",
    summary: "This document",
    access: "anyone",
    answers: { 200: json("It.", z.looseObject({ openapi: z.string() })) },
  },
];

export const operations: readonly Operation[] = [
  ...chatOperations,
  ...storedCompletionsOperations,
  ...responseCacheOperations,
  ...responsesOperations,
  ...conversationsOperations,
  ...passingOperations,
  ...mediaOperations,
  ...filesOperations,
  ...batchesOperations,
  ...modelsOperations,
  ...messagesOperations,
  ...geminiOperations,
  ...converseOperations,
  ...reportsOperations,
  ...contentOperations,
  ...registryOperations,
  ...organizationOperations,
  ...evalsOperations,
  ...doorOperations,
];

/** Those that have a name, wherever they are part of another. */
export const schemas: Readonly<Record<string, z.ZodType>> = {
  Adapter: catalog.adapter,
  AdapterVersion: catalog.adapterVersion,
  ChatCompletion: chatCompletion,
  ChatRequest: chatRequest,
  Conversation: conversation,
  Dataset: dataset,
  EvalAnswer: evalAnswer,
  EvalRun: evalRun,
  Event: catalog.registryEvent,
  Measurement: measurement,
  Model: model,
  ModelCard: modelCard,
  Price: price,
  Project: project,
  Request: settledRequest,
  Response: response,
  Route: route,
};
