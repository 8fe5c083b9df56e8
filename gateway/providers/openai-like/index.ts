/** An upstream that nearly speaks OpenAI's chat completions, as its row in `quirks.ts` says. */
import { readOpenAiError } from "../openai/errors.ts";
import { openAiChatFormat, openAiCompletions, openAiEmbeddings } from "../openai/format.ts";
import type { OpenAiOptions } from "../openai/index.ts";
import { openAiMedia, openAiMediaOf } from "../openai/media.ts";
import { realtimeUrl, writeOpenAiRequest } from "../openai/request.ts";
import type { Provider } from "../provider.ts";
import type { Quirks } from "./quirks.ts";

export function createOpenAiLike(options: Omit<OpenAiOptions, "api">, quirks: Quirks): Provider {
  const { name, baseUrl, transport, timeouts, apiKey, notConfigured } = options;
  const format = openAiChatFormat(quirks.body);
  return {
    name,
    // Under a name of its own it is never taken for OpenAI's, so what it says is read and mended.
    format: quirks.passes ? format : { ...format, name: "openai-like" },
    also: [
      openAiCompletions,
      openAiEmbeddings,
      ...(quirks.media === "all" ? openAiMedia : openAiMediaOf(quirks.media ?? [])),
    ],
    transport,
    timeouts,
    notConfigured,
    servesAdapters: false,
    writeRequest(request, target, { isPriced }) {
      const { upstreamModel } = target.model;
      const spokenByTokens = isPriced?.(target, "output_audio");
      if (quirks.keyHeader !== "api-key" || apiKey === undefined) {
        return writeOpenAiRequest(request, { upstreamModel, apiKey, spokenByTokens });
      }
      const asked = { upstreamModel, apiKey: undefined, spokenByTokens };
      const written = writeOpenAiRequest(request, asked);
      return { ...written, headers: { ...written.headers, "api-key": apiKey } };
    },
    ...(quirks.hasRealtime && {
      realtime: ({ model }) => ({
        url: realtimeUrl(baseUrl, model.upstreamModel),
        headers:
          apiKey === undefined
            ? {}
            : quirks.keyHeader === "api-key"
              ? { "api-key": apiKey }
              : { authorization: `Bearer ${apiKey}` },
      }),
    }),
    readHead: () => undefined,
    readError: (response, body) => readOpenAiError(response, body, name),
  };
}
