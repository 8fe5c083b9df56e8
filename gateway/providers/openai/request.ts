/** The request as an OpenAI-compatible upstream gets it: the client's own, with the upstream's model name. */
import { isForeignContent } from "../../dialects/openai-responses/seal.ts";
import { writeJson } from "../../http/json-text.ts";
import type { FormatName, MediaFormatName, SpokenRequest } from "../format.ts";
import type { ProviderRequest } from "../provider.ts";
import { mediaPaths } from "./media.ts";

export type OpenAiRequestOptions = {
  upstreamModel: string;
  apiKey: string | undefined;
  /** Whether the model is billed by the tokens of what it speaks, which only a stream of events tells. */
  spokenByTokens?: boolean | undefined;
};

/** By format; what is translated is a chat. */
const paths: { [format in FormatName]?: string } = {
  "openai-completions": "/completions",
  "openai-responses": "/responses",
  "openai-embeddings": "/embeddings",
};

/** Usage is always asked of a stream: without it nobody could be billed for what was used. */
export function writeOpenAiRequest(
  call: SpokenRequest,
  options: OpenAiRequestOptions,
): ProviderRequest {
  const mediaPath = mediaPaths[call.format as MediaFormatName];
  if (mediaPath) return writeMediaRequest(call, mediaPath, options);
  const body: Record<string, unknown> = { ...call.body, model: options.upstreamModel };
  const dropped: string[] = [];
  if (call.format === "openai-responses") {
    // Its usage comes with the last event, unasked.
    const own = withoutForeignThoughts(body.input);
    if (own) {
      body.input = own;
      dropped.push("input.reasoning");
    }
  } else if (call.stream) {
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
    path: paths[call.format] ?? "/chat/completions",
    headers: {
      "content-type": "application/json",
      accept: call.stream ? "text/event-stream" : "application/json",
      ...(options.apiKey !== undefined && { authorization: `Bearer ${options.apiKey}` }),
    },
    body: writeJson(body, call.source),
    dropped,
  };
}

/** @param baseUrl with `http`, as all settings have it */
export function realtimeUrl(baseUrl: string, upstreamModel: string): string {
  const url = new URL(`${baseUrl.replace(/\/+$/, "")}/realtime`);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("model", upstreamModel);
  return url.href;
}

/** As JSON, or as the form that it came in. */
function writeMediaRequest(
  { form, body, source, stream, format }: SpokenRequest,
  path: string,
  { upstreamModel, apiKey, spokenByTokens }: OpenAiRequestOptions,
): ProviderRequest {
  const upload = form?.write({ model: upstreamModel });
  const told = { ...body, model: upstreamModel };
  const asksEvents = format === "openai-speech" && spokenByTokens && body.stream_format == null;
  return {
    path,
    headers: {
      "content-type": upload?.contentType ?? "application/json",
      ...(upload && { "content-length": String(upload.bytes) }),
      accept: stream && format !== "openai-speech" ? "text/event-stream" : "*/*",
      ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
    },
    body: upload ? "" : writeJson(asksEvents ? { ...told, stream_format: "sse" } : told, source),
    ...(upload && { upload }),
    dropped: [],
  };
}

/** Thoughts that another provider had earlier in the conversation, which OpenAI refuses; `undefined` when there are none. */
function withoutForeignThoughts(input: unknown): unknown[] | undefined {
  if (!Array.isArray(input)) return undefined;
  const own = input.filter((item) => !isForeignContent(item?.encrypted_content));
  return own.length < input.length ? own : undefined;
}
