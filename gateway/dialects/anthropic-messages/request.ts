/** Reads `POST /v1/messages`: the fields that Switchyard acts on, and the rest as it came. */
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { CanonicalRequest } from "../../canonical/request.ts";
import { type BodyLimits, type JsonBody, readJsonBody, refuseDeeper } from "../../http/body.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { Call, CallTexts } from "../dialect.ts";
import { readCanonicalMessages } from "./canonical.ts";
import { travellingHeaders } from "./headers.ts";
import { anthropicMessages } from "./index.ts";
import { countRequest, type MessagesRequest, messagesRequest } from "./schema.ts";
import { documentsIn, imagesIn, textsIn } from "./texts.ts";

/**
 * @throws HubError `unsupported_media_type`, `request_too_large`, `invalid_json`, and what the schema
 *   finds, naming the field
 */
export function readMessagesCall(request: Request, limits: BodyLimits): Promise<Call> {
  return readCall(request, limits, (body) => parseOrThrow(messagesRequest, body));
}

/** As `readMessagesCall`, for what is only counted. */
export function readCountCall(request: Request, limits: BodyLimits): Promise<Call> {
  return readCall(request, limits, (body) => parseOrThrow(countRequest, body));
}

type ReadRequest = Omit<MessagesRequest, "max_tokens"> & { max_tokens?: number };

async function readCall(
  request: Request,
  limits: BodyLimits,
  parse: (body: unknown) => ReadRequest,
): Promise<Call> {
  const headers = travellingHeaders(request);
  const body = await readJsonBody(request, limits);
  const call = new MessagesCall(parse(body.value), body, headers);
  refuseDeeper(body, limits.nestingMax);
  return call;
}

class MessagesCall implements Call {
  readonly dialect = anthropicMessages;
  readonly model: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly source?: { value: Readonly<Record<string, unknown>>; text: string };
  readonly headers: Readonly<Record<string, string>>;
  readonly bodyBytes: number;
  readonly stream: boolean;
  /** It stands in every stream of this dialect. */
  readonly wantsUsage = true;
  readonly outputTokensMax: number | undefined;
  readonly choices = 1;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly #request: ReadRequest;

  constructor(request: ReadRequest, { value, text, bytes }: JsonBody, headers: Call["headers"]) {
    this.#request = request;
    this.model = request.model;
    this.body = value as Record<string, unknown>;
    if (mayLoseNumbers(text)) this.source = { value: this.body, text };
    this.headers = headers ?? {};
    this.bodyBytes = bytes;
    this.stream = request.stream === true;
    this.outputTokensMax = request.max_tokens;
    this.metadata = request.metadata ? stringsOf(request.metadata) : undefined;
  }

  images(): number {
    return imagesIn(this.#request.messages);
  }

  documents(): number {
    return documentsIn(this.#request.messages);
  }

  texts(): CallTexts {
    return textsIn(this.#request, this.body.output_config ?? this.body.output_format);
  }

  canonical(): CanonicalRequest {
    return readCanonicalMessages(this.body);
  }
}

function stringsOf(metadata: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(metadata).filter(
      (entry): entry is [string, string] => typeof entry[1] === "string",
    ),
  );
}
