/** Reads `POST /v1/chat/completions`: the fields that Switchyard acts on, and the rest as it came. */
import {
  type ChatMessage,
  type ChatRequest,
  chatRequest,
  messageText,
} from "../../../sdk/protocol/chat.ts";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { type BodyLimits, type JsonBody, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import { mayBeId } from "../../kept/ask.ts";
import { metadata } from "../../kept/metadata.ts";
import type { CompletionStore, StoredCompletion } from "../../stored-completions/store.ts";
import type { Call, CallTexts, Gatherer } from "../dialect.ts";
import { type Reading, readText, together, unread, unreadBytes } from "../reading.ts";
import { readCanonicalChat } from "./canonical.ts";
import { ChatGatherer } from "./gather.ts";
import { openAiChat } from "./index.ts";

export type ReadChatOptions = {
  limits: BodyLimits;
  projectId: string;
  /** Absent where this gateway stores none. */
  store: CompletionStore | undefined;
};

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, and what the schema
 *   finds, naming the field
 */
export async function readChatCall(
  request: Request,
  { limits, projectId, store }: ReadChatOptions,
): Promise<Call> {
  const body = await readJsonBody(request, limits);
  const call = toChatCall(body.value, body.bytes, body);
  refuseDeeper(body, limits.nestingMax);
  if (store && call.body.store === true) {
    parseOrThrow(metadata.nullish(), call.body.metadata, "metadata.");
    call.keepIn(store, projectId);
  }
  return call;
}

/** @throws HubError naming the field */
export function toChatCall(
  body: unknown,
  bodyBytes: number,
  { text }: Pick<JsonBody, "text"> = { text: "" },
): ChatCall {
  const request = parseOrThrow(chatRequest, body);
  const { max_tokens, max_completion_tokens } = request;
  if (max_tokens != null && max_completion_tokens != null && max_tokens !== max_completion_tokens) {
    const message =
      "Invalid 'max_tokens': 'max_completion_tokens' says otherwise; send that one alone.";
    throw new HubError("invalid_value", message, { param: "max_tokens" });
  }
  return new ChatCall(request, body as Record<string, unknown>, { bodyBytes, text });
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
  keep?: (whole: unknown, about: { requestId: string }) => Promise<void>;
  gather?: (limits: { frameBytesMax: number; answerBytesMax: number }) => Gatherer;
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

  /** Its answer is to be stored. */
  keepIn(store: CompletionStore, projectId: string): void {
    this.keep = (whole, { requestId }) => store.keep(projectId, this.#toStored(whole, requestId));
    this.gather = (limits) => new ChatGatherer(limits);
  }

  #toStored(whole: unknown, requestId: string): StoredCompletion {
    const answer = whole as Readonly<Record<string, unknown>>;
    if (typeof answer.id !== "string" || !mayBeId(answer.id)) {
      throw new HubError("upstream_error", "The upstream gave the answer no id to store it by.");
    }
    const asked = Object.fromEntries(askedFields.map((name) => [name, this.body[name] ?? null]));
    return {
      id: answer.id,
      requestedModel: this.model,
      answeredModel: String(answer.model ?? this.model).replaceAll("\0", ""),
      metadata: this.metadata ?? {},
      completion: {
        ...asked,
        request_id: requestId,
        input_user: this.body.user ?? null,
        ...answer,
      },
      messages: this.#request.messages,
    };
  }

  images(): number {
    return this.#count((part) => part.type === "image_url");
  }

  documents(): number {
    return this.#count((part) => part.type === "file" && isElsewhere(part));
  }

  texts(): CallTexts {
    const { messages } = this.#request;
    const last = messages.findLast(({ role }) => role === "user");
    const { tools, functions, response_format, documents, prediction } = this.body;
    const read = messages.map(readMessage);
    return {
      system: messages
        .filter(({ role }) => role === "system" || role === "developer")
        .map((message) => messageText(message) ?? "")
        .join("\n"),
      user: (last && messageText(last)) ?? "",
      all: read.map(({ text }) => text),
      schemas: [tools, functions, response_format, documents, prediction]
        .filter((part) => part != null)
        .map((part) => JSON.stringify(part))
        .join(""),
      unread: () => unreadBytes(read),
    };
  }

  canonical(): CanonicalRequest {
    if (!this.keep) return readCanonicalChat(this.body);
    // What is asked of the gateway is nothing that a provider could lack.
    const { store: _store, ...body } = this.body;
    return readCanonicalChat(body);
  }

  #count(isOne: (part: { type: string }) => boolean): number {
    let count = 0;
    for (const { content } of this.#request.messages) {
      if (Array.isArray(content)) for (const part of content) if (isOne(part)) count++;
    }
    return count;
  }
}

/** What is said, thought and called; pictures are counted apart. */
function readMessage(message: ChatMessage): Reading {
  const { role: _role, content, tool_calls, function_call, tool_call_id: _id, ...more } = message;
  const { name, refusal, reasoning_content, reasoning, ...rest } = more;
  const calls = [...(Array.isArray(tool_calls) ? tool_calls : []), { function: function_call }];
  const parts = Array.isArray(content) ? content : [];
  return together([
    readText(messageText(message), name, refusal, reasoning_content, reasoning),
    ...calls.map(readCall),
    unread(...parts.filter(({ type }) => type !== "text" && type !== "image_url")),
    unread(...Object.values(rest)),
  ]);
}

function readCall(call: { function?: Called; custom?: Called } | null): Reading {
  const called = call?.function ?? call?.custom;
  return readText(called?.name, called?.arguments, called?.input);
}

type Called = { name?: unknown; arguments?: unknown; input?: unknown } | null;

function isElsewhere(part: { type: string }): boolean {
  return (part as { file?: { file_id?: unknown } | null }).file?.file_id != null;
}

/** What OpenAI tells of the request with a stored completion. */
const askedFields = [
  "tools",
  "tool_choice",
  "response_format",
  "seed",
  "temperature",
  "top_p",
  "presence_penalty",
  "frequency_penalty",
  "service_tier",
];
