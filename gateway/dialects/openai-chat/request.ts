/** Reads `POST /v1/chat/completions`: the fields that Switchyard acts on, and the rest as it came. */
import { type ChatRequest, chatRequest, messageText } from "../../../sdk/protocol/chat.ts";
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { type BodyLimits, type JsonBody, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { Call, CallTexts } from "../dialect.ts";
import { readCanonicalChat } from "./canonical.ts";
import { openAiChat } from "./index.ts";

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, and what the schema
 *   finds, naming the field
 */
export async function readChatCall(request: Request, limits: BodyLimits): Promise<Call> {
  const body = await readJsonBody(request, limits);
  const call = toChatCall(body.value, body.bytes, body);
  refuseDeeper(body, limits.nestingMax);
  return call;
}

/** @throws HubError naming the field */
export function toChatCall(
  body: unknown,
  bodyBytes: number,
  { text }: Pick<JsonBody, "text"> = { text: "" },
): Call {
  return new ChatCall(parseOrThrow(chatRequest, body), body as Record<string, unknown>, {
    bodyBytes,
    text,
  });
}

class ChatCall implements Call {
  readonly dialect = openAiChat;
  readonly model: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly source?: { value: Readonly<Record<string, unknown>>; text: string };
  readonly bodyBytes: number;
  readonly stream: boolean;
  readonly wantsUsage: boolean;
  readonly outputTokensMax: number | undefined;
  readonly choices: number;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly #request: ChatRequest;

  constructor(
    request: ChatRequest,
    body: Readonly<Record<string, unknown>>,
    { bodyBytes, text }: { bodyBytes: number; text: string },
  ) {
    this.#request = request;
    this.model = request.model;
    this.body = body;
    if (mayLoseNumbers(text)) this.source = { value: body, text };
    this.bodyBytes = bodyBytes;
    this.stream = request.stream === true;
    this.wantsUsage = request.stream_options?.include_usage === true;
    this.outputTokensMax = request.max_completion_tokens ?? request.max_tokens ?? undefined;
    this.choices = request.n ?? 1;
    this.metadata = request.metadata ?? undefined;
  }

  images(): number {
    let images = 0;
    for (const { content } of this.#request.messages) {
      if (!Array.isArray(content)) continue;
      for (const part of content) if (part.type === "image_url") images++;
    }
    return images;
  }

  texts(): CallTexts {
    const { messages } = this.#request;
    const last = messages.findLast(({ role }) => role === "user");
    const { tools, functions, response_format } = this.body;
    return {
      system: messages
        .filter(({ role }) => role === "system" || role === "developer")
        .map((message) => messageText(message) ?? "")
        .join("\n"),
      user: (last && messageText(last)) ?? "",
      all: messages.map((message) => messageText(message) ?? ""),
      schemas: [tools, functions, response_format]
        .filter((part) => part != null)
        .map((part) => JSON.stringify(part))
        .join(""),
    };
  }

  canonical(): CanonicalRequest {
    return readCanonicalChat(this.body);
  }
}
