/** Google's Gemini API, as AI Studio gives keys to it. */
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { geminiEmbeddings } from "./embeddings.ts";
import { readGeminiError } from "./errors.ts";
import { geminiFormat } from "./format.ts";
import {
  toModelPath,
  writeCountRequest,
  writeEmbedRequest,
  writeGeminiRequest,
} from "./request.ts";
import { readTotalTokens } from "./response.ts";

export const geminiBaseUrl = "https://generativelanguage.googleapis.com/v1beta";

export type GeminiOptions = {
  name: string;
  transport: Transport;
  timeouts: Timeouts;
  apiKey: string | undefined;
  notConfigured: string | undefined;
};

export function createGemini(options: GeminiOptions): Provider {
  const { name, transport, timeouts, apiKey, notConfigured } = options;
  const headers: Record<string, string> = apiKey === undefined ? {} : { "x-goog-api-key": apiKey };
  return {
    name,
    format: geminiFormat,
    also: [geminiEmbeddings],
    transport,
    timeouts,
    notConfigured,
    servesAdapters: false,
    writeRequest(call, { model }) {
      const modelPath = toModelPath(model.upstreamModel);
      return call.format === "openai-embeddings"
        ? writeEmbedRequest(call, { modelPath, headers })
        : writeGeminiRequest(call, { modelPath, headers });
    },
    counting: {
      writeRequest(call, { model }) {
        const path = toModelPath(model.upstreamModel);
        const asked = { ...call.body, model: decodeURIComponent(path.slice(1)) };
        return writeCountRequest({ generateContentRequest: asked }, { modelPath: path, headers });
      },
      readCount: readTotalTokens,
    },
    readHead: () => undefined,
    readError: (response, body) => readGeminiError(response, body, name),
  };
}
