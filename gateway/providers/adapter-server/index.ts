/** Our adapter-server, in this process or behind a URL: OpenAI's dialect, weights named by digest. */
import { openAiChatFormat, openAiCompletions, openAiEmbeddings } from "../openai/format.ts";
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { readCount, writeCountRequest } from "./count.ts";
import { readAdapterServerError } from "./errors.ts";
import { writeAdapterServerRequest } from "./request.ts";
import { readAdapterServerHead } from "./response.ts";

export type AdapterServerOptions = {
  name: string;
  transport: Transport;
  timeouts: Timeouts;
  operatorKey: string | undefined;
  notConfigured: string | undefined;
};

/** Its answers, streams and errors are OpenAI's, and read as those are. */
export function createAdapterServer(options: AdapterServerOptions): Provider {
  const { name, transport, timeouts, operatorKey, notConfigured } = options;
  return {
    name,
    format: openAiChatFormat({ samplesMore: true, reasons: false }),
    also: [openAiCompletions, openAiEmbeddings],
    transport,
    timeouts,
    notConfigured,
    servesAdapters: true,
    writeRequest: (call, target, context) =>
      writeAdapterServerRequest(call, target, { ...context, operatorKey }),
    readHead: readAdapterServerHead,
    counting: {
      writeRequest: (call, target) => writeCountRequest(call, target, operatorKey),
      readCount,
    },
    readError: (response, body) => readAdapterServerError(response, body, name),
  };
}
