/** The request as Gemini gets it: the client's own, under the upstream's name for the model. */
import { writeJson } from "../../http/json-text.ts";
import type { SpokenRequest } from "../format.ts";
import type { ProviderRequest } from "../provider.ts";
import { writeEmbedBody } from "./embeddings.ts";

export type GeminiRequestOptions = {
  /** Under the base URL, such as `/models/gemini-3-pro`. */
  modelPath: string;
  headers: Record<string, string>;
};

/** Streams are always asked for as server-sent events, whichever of the two forms the client reads. */
export function writeGeminiRequest(
  call: SpokenRequest,
  { modelPath, headers }: GeminiRequestOptions,
): ProviderRequest {
  // Google reads the model from the address, and would refuse ours in the body.
  const { model: _, adapters: __, ...body } = call.body;
  const method = call.stream ? "streamGenerateContent?alt=sse" : "generateContent";
  return {
    path: `${modelPath}:${method}`,
    headers: {
      "content-type": "application/json",
      accept: call.stream ? "text/event-stream" : "application/json",
      ...headers,
    },
    body: writeJson(body, call.source),
    dropped: [],
  };
}

/** @param body of AI Studio's form or of Vertex's, which differ */
export function writeCountRequest(
  body: Record<string, unknown>,
  { modelPath, headers }: GeminiRequestOptions,
): ProviderRequest {
  return {
    path: `${modelPath}:countTokens`,
    headers: { "content-type": "application/json", accept: "application/json", ...headers },
    body: JSON.stringify(body),
    dropped: [],
  };
}

/** OpenAI's embeddings, all texts at once. @throws HubError as `writeEmbedBody` does */
export function writeEmbedRequest(
  call: SpokenRequest,
  { modelPath, headers }: GeminiRequestOptions,
): ProviderRequest {
  const { body, dropped } = writeEmbedBody(call.body, decodeURIComponent(modelPath.slice(1)));
  return {
    path: `${modelPath}:batchEmbedContents`,
    headers: { "content-type": "application/json", accept: "application/json", ...headers },
    body: JSON.stringify(body),
    dropped,
  };
}

/** @param name as the upstream has it, `models/` before it or not */
export function toModelPath(name: string): string {
  const path = /^(models|tunedModels)\//.test(name) ? name : `models/${name}`;
  return `/${path.split("/").map(encodeURIComponent).join("/")}`;
}
