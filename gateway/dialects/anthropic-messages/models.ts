/** `GET /v1/models` as Anthropic has it, for clients that send `anthropic-version`. */
import { z } from "zod";
import type { ModelCard } from "../../../sdk/protocol/chat.ts";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import { findTarget, type Scope } from "../../routing/resolve.ts";
import { listModels, retrieveModel } from "../openai-models/models.ts";

/** A page of what the asking key may use. @throws HubError naming the query's field */
export function pageOfModels(query: URLSearchParams, scope: Scope): unknown {
  const { limit, after_id, before_id } = parseOrThrow(pageQuery, Object.fromEntries(query));
  const all = listModels(scope).data;
  const from = after_id === undefined ? 0 : indexOf(after_id, all, "after_id") + 1;
  const until = before_id === undefined ? all.length : indexOf(before_id, all, "before_id");
  const between = all.slice(from, until);
  // Backwards, the page ends where the next one began.
  const data = before_id === undefined ? between.slice(0, limit) : between.slice(-limit);
  return {
    data: data.map((card) => toModelInfo(card, scope)),
    has_more: data.length < between.length,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}

/** @throws HubError `model_not_found` */
export function modelInfo(id: string, scope: Scope): unknown {
  return toModelInfo(retrieveModel(id, scope), scope);
}

function toModelInfo({ id, created }: ModelCard, scope: Scope): unknown {
  const model = findTarget(id, scope)?.model;
  return {
    type: "model",
    id,
    display_name: id,
    created_at: new Date(created * 1000).toISOString(),
    max_input_tokens: model?.contextLength ?? null,
    max_tokens: model?.maxOutputTokens ?? null,
    capabilities: null,
    line: null,
    lifecycle: "active",
    deprecated_at: null,
    retires_at: null,
  };
}

function indexOf(id: string, all: readonly ModelCard[], param: string): number {
  const index = all.findIndex((card) => card.id === id);
  if (index >= 0) return index;
  throw new HubError("invalid_value", `Invalid '${param}': there is no such model in the list.`, {
    param,
  });
}

const pageQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(20),
  after_id: z.string().optional(),
  before_id: z.string().optional(),
});
