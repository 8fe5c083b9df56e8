/** Anthropic's Messages API, and whoever speaks it. */
import type { Provider } from "../provider.ts";
import type { Timeouts } from "../settings.ts";
import type { Transport } from "../transport.ts";
import { readAnthropicError } from "./errors.ts";
import { anthropicFormat } from "./format.ts";
import { writeAnthropicRequest, writeCountRequest } from "./request.ts";
import { tokenCount } from "./schema.ts";

export const anthropicBaseUrl = "https://api.anthropic.com/v1";

export type AnthropicOptions = {
  name: string;
  transport: Transport;
  timeouts: Timeouts;
  apiKey: string | undefined;
  notConfigured: string | undefined;
  outputTokensDefault: number;
};

export function createAnthropic(options: AnthropicOptions): Provider {
  const { name, transport, timeouts, apiKey, notConfigured } = options;
  return {
    name,
    format: anthropicFormat,
    transport,
    timeouts,
    notConfigured,
    servesAdapters: false,
    writeRequest: (call, target) => writeAnthropicRequest(call, target, options),
    readHead: () => undefined,
    readError: (response, body) => readAnthropicError(response, body, name),
    counting: {
      writeRequest: (call, target) => writeCountRequest(call, target, apiKey),
      readCount: (bytes) =>
        tokenCount.parse(JSON.parse(new TextDecoder().decode(bytes))).input_tokens,
    },
  };
}
