/** Google's addresses, as AI Studio and as Vertex have them, as the OpenAPI document tells them. */
import { z } from "zod";
import { errorTable } from "../../../sdk/protocol/errors.ts";
import {
  databaseCodes,
  type ErrorShape,
  json,
  modelCodes,
  type Operation,
  streamedEvent,
} from "../../../sdk/protocol/openapi/operation.ts";
import { countTokensBody, generateContentBody } from "./schema.ts";

const errors: ErrorShape = {
  name: "GoogleError",
  schema: z.looseObject({
    error: z.looseObject({ code: z.int(), message: z.string(), status: z.string() }),
  }),
  statusOf: (code) => errorTable[code].status,
  keyHeader: "x-goog-api-key",
};

const answer = z.looseObject({
  candidates: z.array(z.looseObject({})).optional(),
  modelVersion: z.string().optional(),
  usageMetadata: z.looseObject({}).optional(),
});
const model = z.looseObject({
  name: z.string(),
  supportedGenerationMethods: z.array(z.string()),
});
const contents = [{ role: "user", parts: [{ text: "Say hello." }] }];
const alt = z.enum(["sse", "json"]).optional();

const googleProject = "projects/{project}/locations/{location}/publishers/{publisher}";
/** What stands before `models/{model}`, how the router has it, and what is added to names. */
const places = [
  ["/v1beta", "/v1beta/models/*", ""],
  ["/v1", "/v1/models/*", "V1"],
  [`/v1/${googleProject}`, "/v1/projects/*", "OfProject"],
  [`/v1beta1/${googleProject}`, "/v1beta1/projects/*", "OfProjectBeta"],
  ["/v1/publishers/{publisher}", "/v1/publishers/*", "OfPublisher"],
  ["/v1beta1/publishers/{publisher}", "/v1beta1/publishers/*", "OfPublisherBeta"],
] as const;

export const geminiOperations: readonly Operation[] = [
  ...places.flatMap(([before, served, suffix]): Operation[] => {
    const address = `${before}/models/{model}`;
    const shared = {
      method: "post",
      served,
      tag: "Google",
      access: "project",
      codes: modelCodes,
      errors,
    } as const;
    return [
      {
        ...shared,
        path: `${address}:generateContent`,
        id: `generateContent${suffix}`,
        summary: "Answers contents",
        body: { schema: generateContentBody, example: { contents } },
        answers: { 200: json("The answer.", answer) },
      },
      {
        ...shared,
        path: `${address}:streamGenerateContent`,
        id: `streamGenerateContent${suffix}`,
        summary: "Answers contents as a stream: events with `alt=sse`, a JSON array without",
        query: z.object({ alt }),
        body: { schema: generateContentBody, example: { contents } },
        answers: {
          200: {
            says: "The chunks.",
            content: { "text/event-stream": streamedEvent, "application/json": z.array(answer) },
          },
        },
      },
      {
        ...shared,
        path: `${address}:countTokens`,
        id: `countTokens${suffix}`,
        summary: "Counts the tokens of contents; `x-switchyard-counted-by` tells how exactly",
        body: { schema: countTokensBody, example: { contents } },
        answers: { 200: json("The count.", z.looseObject({ totalTokens: z.int() })) },
      },
    ];
  }),
  {
    method: "get",
    path: "/v1beta/models",
    id: "listGoogleModels",
    tag: "Google",
    summary: "What the key may use",
    access: "project",
    query: z.object({ pageSize: z.int().min(0).optional(), pageToken: z.string().optional() }),
    answers: {
      200: json(
        "Models, adapters and routes.",
        z.looseObject({ models: z.array(model), nextPageToken: z.string().optional() }),
      ),
    },
    codes: databaseCodes,
    errors,
  },
  {
    method: "get",
    path: "/v1beta/models/{model}",
    served: "/v1beta/models/*",
    id: "getGoogleModel",
    tag: "Google",
    summary: "A model, an adapter with its version or alias, or a route",
    access: "project",
    answers: { 200: json("The model.", model) },
    codes: [...databaseCodes, "model_not_found"],
    errors,
  },
];
