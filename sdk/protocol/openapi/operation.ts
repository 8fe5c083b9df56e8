/** One address and method of an HTTP surface, as its OpenAPI document tells it. Routes declare theirs beside them. */
import { z } from "zod";
import { type ErrorCode, errorBody, errorTable } from "../errors.ts";

export type Operation = {
  method: "get" | "post" | "put" | "patch" | "delete";
  /** As OpenAPI writes it, such as `/v1/responses/{id}`. */
  path: string;
  /** As the router has it, where that is not the same with `:id` for `{id}`: names may hold slashes. */
  served?: string;
  /** `operationId`. */
  id: string;
  tag: string;
  summary: string;
  access: Access;
  query?: z.ZodObject;
  /** What a parameter of the path is; a text when it is not told. */
  params?: Readonly<Record<string, z.ZodType>>;
  body?: Body;
  answers: Readonly<Record<number, Answer>>;
  /** Its answer goes on until its client leaves. */
  endless?: true;
  /** What may go wrong here, beside what may at every address with such a key and body. */
  codes?: readonly ErrorCode[];
  /** How errors are told; as OpenAI does, when absent. */
  errors?: ErrorShape;
};

/** Whose key is wanted; `anyone`'s is none. `both`: a project's for its own, an admin's for all. */
export type Access = "anyone" | "project" | "admin" | "both";

export type Body = {
  /** JSON when absent. */
  type?: string;
  schema: z.ZodType;
  /** Whether the request may come without one. */
  optional?: boolean;
  /** One that is right, for people to begin with. */
  example?: unknown;
};

export type Answer = {
  says: string;
  /** By media type; of a stream of events the schema is that of each. */
  content: Readonly<Record<string, z.ZodType>>;
};

/** How the errors of a dialect look. */
export type ErrorShape = {
  /** Of the schema below, among the components. */
  name: string;
  schema: z.ZodType;
  statusOf(code: ErrorCode): number;
  /** Where its clients put the key, besides `Authorization`. */
  keyHeader?: string;
};

export const openAiErrors: ErrorShape = {
  name: "Error",
  schema: errorBody,
  statusOf: (code) => errorTable[code].status,
};

/** A server-sent event. Its data is JSON, but for the `[DONE]` with which some dialects end. */
export const streamedEvent = z.looseObject({ data: z.string(), event: z.string().optional() });

/** @param content a schema of JSON */
export function json(says: string, content: z.ZodType): Answer {
  return { says, content: { "application/json": content } };
}

/** What may go wrong with every key. */
export const keyCodes = [
  "missing_api_key",
  "invalid_api_key",
  "permission_denied",
] as const satisfies readonly ErrorCode[];

/** What may go wrong with every body. */
export const bodyCodes = [
  "invalid_json",
  "missing_required_parameter",
  "invalid_type",
  "invalid_value",
  "number_out_of_range",
  "request_too_large",
  "unsupported_media_type",
  "request_cancelled",
] as const satisfies readonly ErrorCode[];

/** What may go wrong with every query. */
export const queryCodes = [
  "invalid_type",
  "invalid_value",
  "number_out_of_range",
  "missing_required_parameter",
] as const satisfies readonly ErrorCode[];

/** What may go wrong wherever the database is asked. */
export const databaseCodes = ["database_unavailable"] as const satisfies readonly ErrorCode[];

/** What may go wrong wherever a model is asked. */
export const modelCodes = [
  "unsupported_parameter",
  "context_length_exceeded",
  "model_not_found",
  "unsupported_model",
  "rate_limit_exceeded",
  "insufficient_quota",
  "no_price",
  "previous_response_not_found",
  "upstream_error",
  "upstream_model_not_found",
  "upstream_auth_failed",
  "upstream_timeout",
  "upstream_unavailable",
  "adapter_not_applied",
  "deadline_exceeded",
  "server_is_overloaded",
  "shutting_down",
  "storage_full",
  "database_unavailable",
] as const satisfies readonly ErrorCode[];
