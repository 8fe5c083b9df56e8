/** `GET /v1beta/models` and `/v1beta/models/{model}`: what the asking key may use, in Google's shape. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { parseModelName } from "../../../sdk/protocol/model-name.ts";
import type { Scope } from "../../routing/resolve.ts";
import { listModels, retrieveModel } from "../openai-models/models.ts";

/** @throws HubError for a size or a token that is none */
export function listGeminiModels(query: URLSearchParams, scope: Scope): unknown {
  const size = readNumber(query, "pageSize") || pageSizeDefault;
  const from = readNumber(query, "pageToken");
  const { data } = listModels(scope);
  const end = from + Math.min(size, pageSizeMax);
  return {
    models: data.slice(from, end).map(({ id }) => toModel(id, scope)),
    ...(end < data.length && { nextPageToken: String(end) }),
  };
}

/** @throws HubError `model_not_found` */
export function showGeminiModel(id: string, scope: Scope): unknown {
  return toModel(retrieveModel(id, scope).id, scope);
}

function toModel(id: string, { snapshot }: Scope): unknown {
  const { base, adapter } = parseModelName(id);
  const model = snapshot.model(base);
  return {
    name: `models/${id}`,
    baseModelId: base,
    version: adapter?.ref ?? "1",
    displayName: id,
    ...(model?.contextLength !== undefined && { inputTokenLimit: model.contextLength }),
    ...(model?.maxOutputTokens !== undefined && { outputTokenLimit: model.maxOutputTokens }),
    supportedGenerationMethods: ["generateContent", "countTokens"],
  };
}

function readNumber(query: URLSearchParams, name: string): number {
  const text = query.get(name) ?? query.get(name.replace(/[A-Z]/, "_$&").toLowerCase()) ?? "0";
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new HubError("invalid_value", `Invalid '${name}': expected a whole number.`, {
    param: name,
  });
}

/** As Google has them. */
const pageSizeDefault = 50;
const pageSizeMax = 1000;
