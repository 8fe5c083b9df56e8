/** The request as Cohere gets it, a chat or texts to embed. */
import { writeJson } from "../../http/json-text.ts";
import type { Target } from "../../routing/resolve.ts";
import type { SpokenRequest } from "../format.ts";
import type { ProviderRequest } from "../provider.ts";
import { writeEmbedBody } from "./embeddings.ts";

export function writeCohereRequest(
  { body, source, stream, format }: SpokenRequest,
  { model }: Target,
  apiKey: string | undefined,
): ProviderRequest {
  const headers = {
    "content-type": "application/json",
    accept: stream ? "text/event-stream" : "application/json",
    ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
  };
  if (format === "openai-embeddings") {
    const written = writeEmbedBody(body, model.upstreamModel);
    return {
      path: "/embed",
      headers,
      body: JSON.stringify(written.body),
      dropped: written.dropped,
    };
  }
  const { adapters: _, ...sent } = body;
  return {
    path: "/chat",
    headers,
    body: writeJson({ ...sent, model: model.upstreamModel }, source),
    dropped: [],
  };
}
