/** Models on AWS Bedrock: chats by Converse, embeddings by InvokeModel. */
import { writeJson } from "../../http/json-text.ts";
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { bedrockEmbeddings, writeInvokeBody } from "./embeddings.ts";
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
    also: [bedrockEmbeddings],
    servesAdapters: false,
    writeRequest({ body, stream, source, format }, { model }) {
      const path = `/model/${encodeURIComponent(model.upstreamModel)}`;
      const headers = {
        "content-type": "application/json",
        accept: stream ? "application/vnd.amazon.eventstream" : "application/json",
        ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
      };
      if (format === "openai-embeddings") {
        const written = writeInvokeBody(body, model.upstreamModel);
        const { dropped } = written;
        return { path: `${path}/invoke`, headers, body: JSON.stringify(written.body), dropped };
      }
      // The model stands in the address, and ours means nothing there.
      const { modelId: _, adapters: __, ...sent } = body;
      return {
        path: `${path}/${stream ? "converse-stream" : "converse"}`,
        headers,
        body: writeJson(sent, source),
        dropped: [],
      };
    },
    readHead: () => undefined,
    readError: (response, body) => readBedrockError(response, body, options.name),
  };
}
