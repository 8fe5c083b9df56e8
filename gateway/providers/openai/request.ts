/** The request as an OpenAI-compatible upstream gets it: the client's own, with the upstream's model name. */
import { membersOf } from "../../http/json-text.ts";
import type { SpokenRequest } from "../format.ts";
import type { ProviderRequest } from "../provider.ts";

export type OpenAiRequestOptions = {
  upstreamModel: string;
  apiKey: string | undefined;
};

const chatPath = "/chat/completions";

/** Usage is always asked of a stream: without it nobody could be billed for what was used. */
export function writeOpenAiRequest(
  call: SpokenRequest,
  options: OpenAiRequestOptions,
): ProviderRequest {
  const body: Record<string, unknown> = { ...call.body, model: options.upstreamModel };
  const dropped: string[] = [];
  if (call.stream) {
    body.stream_options = {
      ...(body.stream_options as object | null | undefined),
      include_usage: true,
    };
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
    body: writeJson(body, call.source),
    dropped,
  };
}

/**
 * A parsed number is a double, which rounds a 64-bit `seed`; so what was not changed goes out in the
 * characters in which it came, where that can matter.
 */
function writeJson(body: Record<string, unknown>, source: SpokenRequest["source"]): string {
  if (source === undefined) return JSON.stringify(body);
  const texts = membersOf(source.text);
  const members = Object.entries(body).map(([name, value]) => {
    const same = Object.hasOwn(source.value, name) && source.value[name] === value;
    return `${JSON.stringify(name)}:${(same && texts.get(name)) || JSON.stringify(value)}`;
  });
  return `{${members.join(",")}}`;
}
