/** What the request path knows of a way in which clients speak: how to read them, and how to answer them. */
import type { HubError } from "../../sdk/protocol/errors.ts";
import type { Meter, UsageVector } from "../../sdk/protocol/usage.ts";
import type { AnswerStream } from "../attempts/answer-stream.ts";
import type { Answer, AnswerEvent } from "../canonical/answer.ts";
import type { CanonicalRequest } from "../canonical/request.ts";
import type { Guard } from "../guardrails/guard.ts";
import type { Form } from "../http/form.ts";
import type { Tariff } from "../ledger/price-book.ts";
import type { FormatName, PassingStream, StreamSoFar } from "../providers/format.ts";
import type { Item, KeptResponse } from "../responses/store.ts";

export type Dialect = {
  /** The format on the wire; a provider of the same format gets the client's bytes, and the client its bytes. */
  readonly format: FormatName;
  /** The media type of its streams. */
  readonly streamType: string;
  /** Bytes that mean nothing and keep proxies from closing a silent stream; absent where there are none. */
  readonly keepAlive: Uint8Array | undefined;
  /** A whole answer's body. */
  writeAnswer(answer: Answer, head: AnswerHead): unknown;
  openWriter(head: AnswerHead): EventWriter;
  /**
   * The last bytes of a stream that passed as it was, after everything that the provider sent. A good end is
   * written only where the provider's own end is held back until the request is settled.
   */
  endOfStream(error: HubError | undefined, passed: PassedStream): Uint8Array | undefined;
  /** Where the format has several forms of streams, and providers are asked for another than the client reads. */
  reframe?(stream: PassingStream): AnswerStream;
  /** A whole answer, or a stream, with other facts about the request; for `Call.retold`. */
  retell?: {
    answer(whole: unknown, facts: Readonly<Record<string, unknown>>): unknown;
    stream(
      stream: PassingStream,
      facts: () => Readonly<Record<string, unknown>> | undefined,
      limits: { frameBytesMax: number },
    ): PassingStream;
  };
  /** The body of a refusal. */
  writeError(error: HubError, requestId: string): unknown;
  /** A refusal's status, where the dialect has its own; else it is that of the error table. */
  errorStatus?(error: HubError): number;
  /** Adds to any answer's headers those that the dialect's clients look for. */
  addHeaders?(headers: Headers, nowMs: number): void;
};

/** What a stream was that ends now. */
export type PassedStream = { head: AnswerHead; soFar?: StreamSoFar | undefined };

/** What our answer is called. */
export type AnswerHead = {
  /** Where the provider gives the answer no id. */
  id: string;
  createdAtMs: number;
  nowMs: () => number;
  /** What was asked, of which some dialects repeat a part. */
  request: () => Readonly<Record<string, unknown>>;
  /** The model as the client named it. */
  model: string;
  /** Whether a client that can choose wants usage in a stream. */
  wantsUsage: boolean;
};

/** Writes a stream, event by event, as bytes that may go out at once. */
export type EventWriter = {
  /** @returns nothing where an event says nothing yet */
  write(event: AnswerEvent): Uint8Array | undefined;
  /** The whole answer, when all of it was written; absent where nobody keeps any. */
  whole?(): unknown;
  /** What is still to be said when the answer is over, or has broken off. */
  end(error: HubError | undefined): Uint8Array | undefined;
};

/** A request, read as far as every request needs it; what only some need is read when it is asked for. */
export type Call = {
  readonly dialect: Dialect;
  readonly model: string;
  /** Everything as it was sent, what we do not know included; a request in the same format starts from it. */
  readonly body: Readonly<Record<string, unknown>>;
  /** The characters of `value` as they came, kept where a number in them may not survive as a double. */
  readonly source?: { value: Readonly<Record<string, unknown>>; text: string };
  /** The dialect's own headers, which travel on to a provider of the same format. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Length of the body as it came: no text in it can be more tokens than it has bytes. Of a form, its texts' length. */
  readonly bodyBytes: number;
  readonly stream: boolean;
  /** Whether the client wants the usage chunk at a stream's end; true where the dialect always tells it. */
  readonly wantsUsage: boolean;
  /** The client's own bound, of one choice. */
  readonly outputTokensMax: number | undefined;
  readonly choices: number;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  /** Pictures in it, of which a short URL may stand for many tokens. */
  images(): number;
  /** Documents that lie elsewhere, of which an address stands for nobody knows how many; absent where there are none. */
  documents?(): number;
  /** For rules that look at what is said, and for counting. */
  texts(): CallTexts;
  /** @throws HubError naming the field that is wrong, or that has no place in any other dialect */
  canonical(): CanonicalRequest;
  /** The body for a provider that speaks alike, where it is not what the client sent. */
  passed?(): Readonly<Record<string, unknown>> | undefined;
  /** What an answer repeats of the request, where that is not the body. */
  echo?(): Readonly<Record<string, unknown>>;
  /** The files of a request that came as a form, on disk until it is over. */
  readonly form?: Form;
  /** How it may be billed, where that is not as text. */
  tariffs?(text: { inputTokens: number; outputTokensMax: number }): readonly Tariff[];
  /** What was used, for what the provider did not tell or of which it told only a part. */
  measure?(answered: Answered): { usage: UsageVector; estimated: boolean };
  /** Keeps a whole answer, before its client sees the end. @throws HubError when it could not be kept */
  keep?(whole: unknown, about: { requestId: string }): Promise<void>;
  /**
   * What an answer that passes is to tell of the request, because the provider was asked otherwise than the client
   * asked, or was not told all; absent where it tells nothing else.
   */
  retold?(head: AnswerHead): Readonly<Record<string, unknown>> | undefined;
  /** Gathers a stream for `keep`, where nothing else would. */
  gather?(limits: { frameBytesMax: number; answerBytesMax: number }): Gatherer;
  /** What its project's guardrails have to do with it; absent where there are none. */
  guard?: Guard | undefined;
  /** What is kept at once of an answer that nobody waits for; absent where its client waits. */
  readonly background?: ((head: AnswerHead) => BackgroundAnswer) | undefined;
};

/** Follows what goes out to a client. */
export type Gatherer = {
  push(bytes: Uint8Array): void;
  /** @throws HubError when there was too much of it */
  whole(usage: UsageVector | undefined): unknown;
};

export type BackgroundAnswer = {
  kept: KeptResponse;
  /** The conversation that it belongs to. */
  conversationId: string | undefined;
  /** What is said, once it is, to be added to that. */
  said(response: KeptResponse["response"]): readonly Item[];
};

/** What is known of an answer when it is to be measured. */
export type Answered = {
  told: UsageVector | undefined;
  /** What the model wrote. */
  output: { toString(): string };
  /** Whether the model that answered has a price for it: how it is billed. */
  isPriced(meter: Meter): boolean;
};

export type CallTexts = {
  /** Of all instructions, joined. */
  system: string;
  /** Of the user's last turn. */
  user: string;
  /** Of each message, instructions included. */
  all: string[];
  /** Tokens that came as ids, and so are no text. */
  tokenIds?: number;
  /** Tools and schemas, which providers write into the prompt. */
  schemas: string;
  /** The most tokens of what is none of these, such as documents and sounds that came along. */
  unread?(): number;
};
