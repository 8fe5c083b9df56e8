/** `GET /v1/models` and `/v1/models/{model}`, as the OpenAPI document tells them. */
import { z } from "zod";
import { databaseCodes, json, type Operation } from "../../../sdk/protocol/openapi/operation.ts";

export const modelCard = z.looseObject({
  id: z.string(),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
  /** The base of an adapter. */
  parent: z.string().optional(),
  /** The adapter's digest. */
  root: z.string().optional(),
});

export const modelsOperations: readonly Operation[] = [
  {
    method: "get",
    path: "/v1/models",
    id: "listModels",
    tag: "OpenAI",
    summary: "What the key may use; in Anthropic's shape with the header `anthropic-version`",
    access: "project",
    answers: {
      200: json(
        "Models, adapters and routes.",
        z.looseObject({ object: z.literal("list"), data: z.array(modelCard) }),
      ),
    },
    codes: databaseCodes,
  },
  {
    method: "get",
    path: "/v1/models/{model}",
    served: "/v1/models/*",
    id: "retrieveModel",
    tag: "OpenAI",
    summary: "A model, an adapter with its version or alias, or a route",
    access: "project",
    answers: { 200: json("The model.", modelCard) },
    codes: [...databaseCodes, "model_not_found"],
  },
];
