/** What the request path knows of a way in which upstreams speak; a provider is one with an address and a credential. */

import type { StreamStep } from "../attempts/answer-stream.ts";
import type { AnswerEvent, EventReader } from "../canonical/answer.ts";
import type { CanonicalRequest } from "../canonical/request.ts";
import type { Call } from "../dialects/dialect.ts";
import type { ReadUsage } from "../ledger/usage.ts";

export type FormatName =
  | "openai-chat"
  | "openai-responses"
  | "anthropic-messages"
  | "gemini"
  | "bedrock-converse"
  | "cohere-chat"
  /** Nearly a chat: what comes of it is read and mended. */
  | "openai-like"
  /** OpenAI's older texts, and its vectors: they pass, and are not translated. */
  | "openai-completions"
  | "openai-embeddings"
  | MediaFormatName
  /** A session of events, over a WebSocket of its own. */
  | "openai-realtime";

/** What else OpenAI has: it passes too, as JSON or as a form. */
export type MediaFormatName =
  | "openai-moderations"
  | "openai-image-generations"
  | "openai-image-edits"
  | "openai-image-variations"
  | "openai-speech"
  | "openai-transcriptions"
  | "openai-translations";

/** What is needed of a format to pass it on. */
export type PassingFormat = {
  readonly name: FormatName;
  /** Whether this request may pass; one that may not is translated, although both sides speak alike. Absent takes all. */
  takes?(body: Readonly<Record<string, unknown>>): boolean;
  /** The media type that a stream has to have. */
  readonly streamType: RegExp;
  /**
   * A whole answer that passes.
   * @throws HubError `upstream_error` when the bytes are no answer
   */
  readPassing(bytes: Uint8Array, head: PassingHead): PassingAnswer;
  /** A stream that passes as it is. */
  openPassing(options: PassingOptions): PassingStream;
};

export type PassingHead = {
  /** What the client calls the model, for those that write the answer anew. */
  model: string;
  /** What the client asked for. */
  body: Readonly<Record<string, unknown>>;
  contentType?: string | undefined;
  /** Of the upstream's answer, by names in lower case. */
  header?: (name: string) => string | undefined;
};

export type PassingOptions = {
  wantsUsage: boolean;
  /** Of the upstream's stream. */
  contentType?: string | undefined;
  /** What the client asked for. */
  body?: Readonly<Record<string, unknown>>;
  /** Of an event that holds an image or a piece of audio, in place of `frameBytesMax`. */
  mediaFrameBytesMax?: number | undefined;
} & StreamLimits;

/** What other dialects are translated into, and from. One that clients speak too is a `PassingFormat` besides. */
export type Format = Pick<PassingFormat, "name" | "streamType"> & {
  /** Whether tools of free text are known; else they are functions when a request is written. */
  readonly takesFreeText?: boolean;
  /**
   * Another dialect's request in this format.
   * @param request its model by the upstream's own name, because how one is asked may depend on it
   * @returns with the canonical names of what it has no place for
   * @throws HubError `unsupported_parameter` for what would change the answer if it were left out
   */
  writeBody(request: CanonicalRequest): { body: Record<string, unknown>; dropped: string[] };
  /**
   * A whole answer, as the events that it is made of.
   * @throws HubError `upstream_error` when the bytes are no answer
   */
  readAnswer(bytes: Uint8Array): AnswerEvent[];
  openReader(limits: StreamLimits): EventReader;
};

export type StreamLimits = { frameBytesMax: number; relayedTextCharsMax: number };

/** What has to be known of an answer that nobody reads otherwise. */
export type PassingAnswer = {
  /** Where they are not the upstream's own. */
  bytes?: Uint8Array;
  usage: ReadUsage | undefined;
  /** What the model wrote, to be counted when the usage is not told. */
  text: { toString(): string };
  /** The parsed answer, where a call may keep it. */
  whole?: unknown;
  /** What the bytes are, where that is not JSON. */
  contentType?: string;
};

/** A request in a provider's own format: the client's, or one that was written for it. */
export type SpokenRequest = Pick<Call, "body" | "source" | "stream" | "headers" | "form"> & {
  format: FormatName;
};

/** What the model wrote so far; `length` costs nothing, and no text is longer in characters. */
export type Relayed = {
  toString(): string;
  readonly length: number;
  /** What one of `length` may be at most; absent where that counts bytes. */
  readonly bytesPerChar?: number;
};

/** Of a stream whose text is put together as it comes. */
export class RelayedSoFar implements Relayed {
  /** UTF-8 of a unit of UTF-16. */
  readonly bytesPerChar = 3;
  readonly #text: () => string;

  constructor(text: () => string) {
    this.#text = text;
  }

  get length(): number {
    return this.#text().length;
  }

  toString(): string {
    return this.#text();
  }
}

/** Reads a stream on its way to the client. */
export type PassingStream = {
  /** Whether something of the answer was passed, and not only signs of life. */
  readonly begun: boolean;
  /** What the bytes for the client are, where that is not what the dialect's streams are. */
  readonly contentType?: string | undefined;
  /** The newest that the upstream told. */
  readonly usage: ReadUsage | undefined;
  readonly relayed: Relayed;
  push(chunk: Uint8Array): StreamStep;
  close(): StreamStep;
  /** The provider's own good end, to be passed when the request is settled; absent where a dialect's own will do. */
  held?(): Uint8Array | undefined;
  /** The whole answer, where a call may keep it. */
  whole?(): unknown;
  /** Where a failure goes on from; absent where the dialect's failures stand by themselves. */
  soFar?(): StreamSoFar;
};

/** How far a numbered stream has come. */
export type StreamSoFar = {
  /** The next event's number. */
  next: number;
  /** What was told of the response itself. */
  response: Readonly<Record<string, unknown>>;
};
