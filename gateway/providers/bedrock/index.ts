/** Models on AWS Bedrock, all of them by Converse. */
import { writeJson } from "../../http/json-text.ts";
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { readBedrockError } from "./errors.ts";
import { converseFormat } from "./format.ts";

export type BedrockOptions = {
  name: string;
  /** Signs, where there is no API key. */
  transport: Transport;
  timeouts: Timeouts;
  apiKey: string | undefined;
  notConfigured: string | undefined;
};

export function createBedrock({ apiKey, ...options }: BedrockOptions): Provider {
  return {
    ...options,
    format: converseFormat,
    servesAdapters: false,
    writeRequest({ body, stream, source }, { model }) {
      // The model stands in the address, and ours means nothing there.
      const { modelId: _, adapters: __, ...sent } = body;
      return {
        path: `/model/${encodeURIComponent(model.upstreamModel)}/${stream ? "converse-stream" : "converse"}`,
        headers: {
          "content-type": "application/json",
          accept: stream ? "application/vnd.amazon.eventstream" : "application/json",
          ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
        },
        body: writeJson(sent, source),
        dropped: [],
      };
    },
    readHead: () => undefined,
    readError: (response, body) => readBedrockError(response, body, options.name),
  };
}
