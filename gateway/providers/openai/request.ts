/** The request as an OpenAI-compatible upstream gets it: the client's own, with the upstream's model name. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { ChatCall } from "../../dialects/openai-chat/request.ts";
import type { ProviderRequest } from "../provider.ts";

export type OpenAiRequestOptions = {
  upstreamModel: string;
  apiKey: string | undefined;
};

const chatPath = "/chat/completions";

/** Usage is always asked of a stream: without it nobody could be billed for what was used. */
export function writeOpenAiRequest(call: ChatCall, options: OpenAiRequestOptions): ProviderRequest {
  const body: Record<string, unknown> = { ...call.body, model: options.upstreamModel };
  const dropped: string[] = [];
  if (call.stream) {
    body.stream_options = { ...call.request.stream_options, include_usage: true };
  } else if (body.stream_options != null) {
    // OpenAI refuses it without a stream; the official SDK's own examples send it all the same.
    delete body.stream_options;
    dropped.push("stream_options");
  }
  return {
    path: chatPath,
    headers: {
      "content-type": "application/json",
      accept: call.stream ? "text/event-stream" : "application/json",
      ...(options.apiKey !== undefined && { authorization: `Bearer ${options.apiKey}` }),
    },
    body: toJson(body),
    dropped,
  };
}

/** JSON may come nested as deeply as one likes; it is written only as deeply as the stack is. */
function toJson(body: Record<string, unknown>): string {
  try {
    return JSON.stringify(body);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new HubError(
      "invalid_value",
      "The request body is nested too deeply to be passed on. Send less deeply nested JSON.",
      { cause },
    );
  }
}
