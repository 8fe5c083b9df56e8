/** Reads `POST /v1/chat/completions`: bytes with a bound, JSON, then the fields that Switchyard acts on. */
import { type ChatRequest, chatRequest } from "../../../sdk/protocol/chat.ts";
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import { readJsonBody } from "../../http/body.ts";

export type ChatCall = {
  /** The checked fields. */
  request: ChatRequest;
  /** Everything as it was sent, what we do not know included; a provider's request starts from it. */
  body: Readonly<Record<string, unknown>>;
  /** Length of the body as it came: no text in it can be more tokens than it has bytes. */
  bodyBytes: number;
  stream: boolean;
  /** Whether the client wants the usage chunk at a stream's end. */
  wantsUsage: boolean;
  /** The client's own bound, of one choice. */
  outputTokensMax: number | undefined;
  choices: number;
};

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, and what the schema
 *   finds, naming the field
 */
export async function readChatCall(request: Request, bytesMax: number): Promise<ChatCall> {
  const { value, bytes } = await readJsonBody(request, bytesMax);
  return toChatCall(value, bytes);
}

/** @throws HubError naming the field */
export function toChatCall(body: unknown, bodyBytes: number): ChatCall {
  const request = parseOrThrow(chatRequest, body);
  return {
    request,
    body: body as Record<string, unknown>,
    bodyBytes,
    stream: request.stream === true,
    wantsUsage: request.stream_options?.include_usage === true,
    outputTokensMax: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    choices: request.n ?? 1,
  };
}
