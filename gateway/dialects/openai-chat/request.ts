/** Reads `POST /v1/chat/completions`: bytes with a bound, JSON, then the fields that Switchyard acts on. */
import { type ChatRequest, chatRequest } from "../../../sdk/protocol/chat.ts";
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import { readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";

export type ChatCall = {
  /** The checked fields. */
  request: ChatRequest;
  /** Everything as it was sent, what we do not know included; a provider's request starts from it. */
  body: Readonly<Record<string, unknown>>;
  /** The characters of `value` as they came, kept where a number in them may not survive as a double. */
  source?: { value: Readonly<Record<string, unknown>>; text: string };
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
export async function readChatCall(
  request: Request,
  limits: { requestBytesMax: number; nestingMax: number },
): Promise<ChatCall> {
  const body = await readJsonBody(request, limits.requestBytesMax);
  const call = toChatCall(body.value, body.bytes);
  refuseDeeper(body, limits.nestingMax);
  const { text } = body;
  return mayLoseNumbers(text) ? { ...call, source: { value: call.body, text } } : call;
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
