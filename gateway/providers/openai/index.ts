/** Any upstream that speaks OpenAI's chat completions. */
import { openAiResponsesFormat } from "../openai-responses/format.ts";
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { readOpenAiError } from "./errors.ts";
import { openAiChatFormat, openAiCompletions, openAiEmbeddings } from "./format.ts";
import { writeOpenAiRequest } from "./request.ts";

export const openAiBaseUrl = "https://api.openai.com/v1";

export type OpenAiOptions = {
  name: string;
  transport: Transport;
  timeouts: Timeouts;
  apiKey: string | undefined;
  notConfigured: string | undefined;
  /** What it speaks of the two; requests of other dialects become chats where it speaks both. */
  api: "chat" | "responses" | "both";
};

export function createOpenAi(options: OpenAiOptions): Provider {
  const { name, transport, timeouts, apiKey, notConfigured, api } = options;
  const chat = openAiChatFormat({ samplesMore: false, reasons: true });
  const texts = [openAiCompletions, openAiEmbeddings];
  return {
    name,
    ...(api === "responses"
      ? { format: openAiResponsesFormat, also: texts }
      : { format: chat, also: api === "both" ? [openAiResponsesFormat, ...texts] : texts }),
    transport,
    timeouts,
    notConfigured,
    servesAdapters: false,
    writeRequest: (call, target) =>
      writeOpenAiRequest(call, { upstreamModel: target.model.upstreamModel, apiKey }),
    readHead: () => undefined,
    readError: (response, body) => readOpenAiError(response, body, name),
  };
}
