/** Any upstream that speaks OpenAI's chat completions. */
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
};

export function createOpenAi(options: OpenAiOptions): Provider {
  const { name, transport, timeouts, apiKey, notConfigured } = options;
  return {
    name,
    format: openAiChatFormat({ samplesMore: false, reasons: true }),
    also: [openAiCompletions, openAiEmbeddings],
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
