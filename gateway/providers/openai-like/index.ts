/** An upstream that nearly speaks OpenAI's chat completions, as its row in `quirks.ts` says. */
import { readOpenAiError } from "../openai/errors.ts";
import { openAiChatFormat, openAiCompletions, openAiEmbeddings } from "../openai/format.ts";
import type { OpenAiOptions } from "../openai/index.ts";
import { writeOpenAiRequest } from "../openai/request.ts";
import type { Provider } from "../provider.ts";
import type { Quirks } from "./quirks.ts";

export function createOpenAiLike(options: Omit<OpenAiOptions, "api">, quirks: Quirks): Provider {
  const { name, transport, timeouts, apiKey, notConfigured } = options;
  const format = openAiChatFormat(quirks.body);
  return {
    name,
    // Under a name of its own it is never taken for OpenAI's, so what it says is read and mended.
    format: quirks.passes ? format : { ...format, name: "openai-like" },
    also: [openAiCompletions, openAiEmbeddings],
    transport,
    timeouts,
    notConfigured,
    servesAdapters: false,
    writeRequest(request, target) {
      const { upstreamModel } = target.model;
      if (quirks.keyHeader !== "api-key" || apiKey === undefined) {
        return writeOpenAiRequest(request, { upstreamModel, apiKey });
      }
      const written = writeOpenAiRequest(request, { upstreamModel, apiKey: undefined });
      return { ...written, headers: { ...written.headers, "api-key": apiKey } };
    },
    readHead: () => undefined,
    readError: (response, body) => readOpenAiError(response, body, name),
  };
}
