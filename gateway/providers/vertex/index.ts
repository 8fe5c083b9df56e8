/** Gemini as Google's cloud serves it: other addresses, and access tokens in place of a key. */
import { readGeminiError } from "../gemini/errors.ts";
import { geminiFormat } from "../gemini/format.ts";
import { writeCountRequest, writeGeminiRequest } from "../gemini/request.ts";
import { readTotalTokens } from "../gemini/response.ts";
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { vertexEmbeddings, writeEmbedCall } from "./embeddings.ts";

export type VertexOptions = {
  name: string;
  /** Puts tokens on requests by itself. */
  transport: Transport;
  timeouts: Timeouts;
  notConfigured: string | undefined;
};

export function createVertex({ name, ...options }: VertexOptions): Provider {
  return {
    ...options,
    name,
    format: geminiFormat,
    also: [vertexEmbeddings],
    servesAdapters: false,
    writeRequest(call, { model }) {
      const modelPath = toVertexPath(model.upstreamModel);
      if (call.format !== "openai-embeddings") {
        return writeGeminiRequest(call, { modelPath, headers: {} });
      }
      const { method, body, dropped } = writeEmbedCall(call.body, model.upstreamModel);
      return {
        path: `${modelPath}:${method}`,
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(body),
        dropped,
      };
    },
    counting: {
      writeRequest({ body }, { model }) {
        const { contents, systemInstruction = body.system_instruction, tools } = body;
        const asked = { contents, systemInstruction, tools };
        return writeCountRequest(asked, {
          modelPath: toVertexPath(model.upstreamModel),
          headers: {},
        });
      },
      readCount: readTotalTokens,
    },
    readHead: () => undefined,
    readError: (response, body) => readGeminiError(response, body, name),
  };
}

/** Some locations are several, and have a host of their own kind. */
export function vertexBaseUrl({
  project,
  location,
}: {
  project: string;
  location: string;
}): string {
  const host =
    location === "global"
      ? "aiplatform.googleapis.com"
      : location === "us" || location === "eu"
        ? `aiplatform.${location}.rep.googleapis.com`
        : `${location}-aiplatform.googleapis.com`;
  return `https://${host}/v1/projects/${project}/locations/${location}`;
}

/** @param name such as `gemini-3-pro`, `publishers/google/models/gemini-3-pro`, or `endpoints/123` for one's own */
function toVertexPath(name: string): string {
  const path = name.includes("/") ? name : `publishers/google/models/${name}`;
  return `/${path.split("/").map(encodeURIComponent).join("/")}`;
}
