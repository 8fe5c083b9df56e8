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
  | "openai-embeddings";

/** What is needed of a format to pass it on. */
export type PassingFormat = {
  readonly name: FormatName;
  /** The media type that a stream has to have. */
  readonly streamType: RegExp;
  /** A whole answer that passes as it is. @throws HubError `upstream_error` when the bytes are no answer */
  readPassing(bytes: Uint8Array): PassingAnswer;
  /** A stream that passes as it is. */
  openPassing(options: { wantsUsage: boolean } & StreamLimits): PassingStream;
};

/** What other dialects are translated into, and from. */
export type Format = PassingFormat & {
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
  usage: ReadUsage | undefined;
  /** What the model wrote, to be counted when the usage is not told. */
  text: { toString(): string };
  /** The parsed answer, where a call may keep it. */
  whole?: unknown;
};

/** A request in a provider's own format: the client's, or one that was written for it. */
export type SpokenRequest = Pick<Call, "body" | "source" | "stream" | "headers"> & {
  format: FormatName;
};

/** Reads a stream on its way to the client. */
export type PassingStream = {
  /** Whether something of the answer was passed, and not only signs of life. */
  readonly begun: boolean;
  /** The newest that the upstream told. */
  readonly usage: ReadUsage | undefined;
  /** What the model wrote so far. */
  readonly relayed: { toString(): string };
  push(chunk: Uint8Array): StreamStep;
  close(): StreamStep;
  /** The provider's own good end, to be passed when the request is settled; absent where a dialect's own will do. */
  held?(): Uint8Array | undefined;
  /** The whole answer, where a call may keep it. */
  whole?(): unknown;
};
