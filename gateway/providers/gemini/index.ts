/** Google's Gemini API, as AI Studio gives keys to it. */
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { readGeminiError } from "./errors.ts";
import { geminiFormat } from "./format.ts";
import { toModelPath, writeGeminiRequest } from "./request.ts";

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
  return {
    name,
    format: geminiFormat,
    transport,
    timeouts,
    notConfigured,
    servesAdapters: false,
    writeRequest: (call, target) =>
      writeGeminiRequest(call, {
        modelPath: toModelPath(target.model.upstreamModel),
        headers: apiKey === undefined ? {} : { "x-goog-api-key": apiKey },
      }),
    readHead: () => undefined,
    readError: (response, body) => readGeminiError(response, body, name),
  };
}
