/** `POST /model/{model}/converse` and `/converse-stream`, as the OpenAPI document tells them. */
import { z } from "zod";
import { errorTable } from "../../../sdk/protocol/errors.ts";
import {
  type ErrorShape,
  json,
  modelCodes,
  type Operation,
} from "../../../sdk/protocol/openapi/operation.ts";
import { converseBody } from "./schema.ts";

const errors: ErrorShape = {
  name: "AwsError",
  schema: z.looseObject({ __type: z.string(), message: z.string() }),
  statusOf: (code) => errorTable[code].status,
};

const answer = z.looseObject({
  output: z.looseObject({
    message: z.looseObject({ role: z.literal("assistant"), content: z.array(z.looseObject({})) }),
  }),
  stopReason: z.string(),
});
const body = {
  schema: converseBody,
  example: { messages: [{ role: "user", content: [{ text: "Say hello." }] }] },
};
const shared = {
  method: "post",
  served: "/model/*",
  tag: "AWS",
  access: "project",
  body,
  codes: modelCodes,
  errors,
} as const;

export const converseOperations: readonly Operation[] = [
  {
    ...shared,
    path: "/model/{model}/converse",
    id: "converse",
    summary: "Answers a conversation",
    answers: { 200: json("The answer.", answer) },
  },
  {
    ...shared,
    path: "/model/{model}/converse-stream",
    id: "converseStream",
    summary: "Answers a conversation as frames of AWS's event stream",
    answers: {
      200: {
        says: "The frames.",
        content: { "application/vnd.amazon.eventstream": z.string().meta({ format: "binary" }) },
      },
    },
  },
];
