/** Any upstream that speaks OpenAI's chat completions. */
import { openAiResponsesFormat } from "../openai-responses/format.ts";
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { readOpenAiError } from "./errors.ts";
import { openAiChatFormat, openAiCompletions, openAiEmbeddings } from "./format.ts";
import { openAiMedia } from "./media.ts";
import { realtimeUrl, writeOpenAiRequest } from "./request.ts";

export const openAiBaseUrl = "https://api.openai.com/v1";

export type OpenAiOptions = {
  name: string;
  baseUrl: string;
  transport: Transport;
  timeouts: Timeouts;
  apiKey: string | undefined;
  notConfigured: string | undefined;
  /** What it speaks of the two; requests of other dialects become chats where it speaks both. */
  api: "chat" | "responses" | "both";
};

export function createOpenAi(options: OpenAiOptions): Provider {
  const { name, baseUrl, transport, timeouts, apiKey, notConfigured, api } = options;
  const chat = openAiChatFormat({ samplesMore: false, reasons: true, takesFreeText: true });
  const rest = [openAiCompletions, openAiEmbeddings, ...openAiMedia];
  return {
    name,
    ...(api === "responses"
      ? { format: openAiResponsesFormat, also: rest }
      : { format: chat, also: api === "both" ? [openAiResponsesFormat, ...rest] : rest }),
    transport,
    timeouts,
    notConfigured,
    servesAdapters: false,
    writeRequest: (call, target, { isPriced }) =>
      writeOpenAiRequest(call, {
        upstreamModel: target.model.upstreamModel,
        apiKey,
        spokenByTokens: isPriced?.(target, "output_audio"),
      }),
    realtime: ({ model }) => ({
      url: realtimeUrl(baseUrl, model.upstreamModel),
      headers: apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` },
    }),
    readHead: () => undefined,
    readError: (response, body) => readOpenAiError(response, body, name),
  };
}
