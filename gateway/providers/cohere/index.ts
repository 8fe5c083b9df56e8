/** Cohere's chats and embeddings, the second version of its API. */
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { cohereEmbeddings } from "./embeddings.ts";
import { readCohereError } from "./errors.ts";
import { cohereFormat } from "./format.ts";
import { writeCohereRequest } from "./request.ts";

export const cohereBaseUrl = "https://api.cohere.com/v2";

export type CohereOptions = {
  name: string;
  transport: Transport;
  timeouts: Timeouts;
  apiKey: string | undefined;
  notConfigured: string | undefined;
};

export function createCohere({ apiKey, ...options }: CohereOptions): Provider {
  return {
    ...options,
    format: cohereFormat,
    also: [cohereEmbeddings],
    servesAdapters: false,
    writeRequest: (call, target) => writeCohereRequest(call, target, apiKey),
    readHead: () => undefined,
    readError: (response, body) => readCohereError(response, body, options.name),
  };
}
