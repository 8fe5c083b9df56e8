/** How one call is put to one provider: its bytes pass where both speak alike, else they are translated. */
import type { Model } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type AnswerEvent, gatherAnswer } from "../canonical/answer.ts";
import type { CanonicalRequest, OutputPart } from "../canonical/request.ts";
import type { AnswerHead, Call, EventWriter } from "../dialects/dialect.ts";
import type { ReadUsage } from "../ledger/usage.ts";
import type { Format, SpokenRequest, StreamLimits } from "../providers/format.ts";
import type {
  CallContext,
  Provider,
  ProviderAnswer,
  ProviderRequest,
} from "../providers/provider.ts";
import type { Target } from "../routing/resolve.ts";
import type { AnswerStream, StreamStep } from "./answer-stream.ts";

export type Conversation = {
  /** The media type that a stream has to have. */
  streamType: RegExp;
  request: ProviderRequest;
  /** @throws HubError `upstream_error` when the bytes are no answer */
  readAnswer(bytes: Uint8Array): ProviderAnswer;
  openStream(limits: StreamLimits): AnswerStream;
};

/** @throws HubError what the provider's format has no place for and would be missed */
export function openConversation(
  call: Call,
  { provider, target, context }: { provider: Provider; target: Target; context: CallContext },
): Conversation {
  const { dialect } = call;
  const { format, also = [] } = provider;
  const alike = [format, ...also].find(({ name }) => name === dialect.format);
  if (alike) {
    return {
      streamType: alike.streamType,
      request: provider.writeRequest(asItCame(call), target, context),
      readAnswer: (bytes) => ({ bytes, ...alike.readPassing(bytes) }),
      openStream(limits) {
        const passing = alike.openPassing({ wantsUsage: call.wantsUsage, ...limits });
        if (dialect.reframe) return dialect.reframe(passing);
        return Object.assign(passing, {
          ending: (error: HubError | undefined) =>
            (error ? undefined : passing.held?.()) ?? dialect.endOfStream(error),
        });
      },
    };
  }
  const { spoken, dropped } = translate(call, format, target.model);
  const request = provider.writeRequest(spoken, target, context);
  const head: AnswerHead = {
    id: context.requestId,
    createdAtMs: context.startedAtMs,
    nowMs: context.nowMs,
    request: () => call.echo?.() ?? call.body,
    model: call.model,
    wantsUsage: call.wantsUsage,
  };
  return {
    streamType: format.streamType,
    request: { ...request, dropped: [...dropped, ...request.dropped] },
    readAnswer(bytes) {
      const answer = gatherAnswer(format.readAnswer(bytes));
      const text = {
        toString: () => answer.choices.flatMap(({ parts }) => parts.map(textOf)).join(""),
      };
      const write = () => {
        const whole = dialect.writeAnswer(answer, head);
        return { whole, bytes: Buffer.from(JSON.stringify(whole)) };
      };
      return { ...write(), write, usage: answer.usage, text };
    },
    openStream: (limits) =>
      new TranslatedStream(format.openReader(limits), dialect.openWriter(head), limits),
  };
}

/** For a provider that speaks as the client does. */
export function asItCame(call: Call): SpokenRequest {
  const { dialect, stream, source, headers } = call;
  const passed = call.passed?.();
  const kept = { ...(source && !passed && { source }), ...(headers && { headers }) };
  return { body: passed ?? call.body, stream, format: dialect.format, ...kept };
}

/** @throws HubError what the format has no place for and would be missed */
export function translate(
  call: Call,
  format: Format,
  model: Model,
): { spoken: SpokenRequest; dropped: string[] } {
  const canonical = { ...within(call.canonical(), model), model: model.upstreamModel };
  const { body, dropped } = format.writeBody(canonical);
  return { spoken: { body, stream: call.stream, format: format.name }, dropped };
}

/** A model says no more than its most, and providers refuse to be asked for more; some dialects have to name a number. */
function within(request: CanonicalRequest, { maxOutputTokens }: Model): CanonicalRequest {
  const { outputTokensMax } = request;
  if (outputTokensMax === undefined || maxOutputTokens === undefined) return request;
  return { ...request, outputTokensMax: Math.min(outputTokensMax, maxOutputTokens) };
}

/** Reads a provider's events and writes them as the client's dialect has them. */
class TranslatedStream implements AnswerStream {
  begun = false;
  usage: ReadUsage | undefined;
  readonly relayed: { toString(): string };
  readonly #reader: { push(chunk: Uint8Array): AnswerEvent[]; close(): AnswerEvent[] };
  readonly #writer: EventWriter;
  readonly #textCharsMax: number;
  #text = "";

  constructor(
    reader: { push(chunk: Uint8Array): AnswerEvent[]; close(): AnswerEvent[] },
    writer: EventWriter,
    { relayedTextCharsMax }: StreamLimits,
  ) {
    this.#reader = reader;
    this.#writer = writer;
    this.#textCharsMax = relayedTextCharsMax;
    this.relayed = { toString: () => this.#text };
  }

  push(chunk: Uint8Array): StreamStep {
    let events: AnswerEvent[];
    try {
      events = this.#reader.push(chunk);
    } catch (cause) {
      const message = "The upstream sent an event that is too large.";
      return { pass: [], end: { error: new HubError("upstream_error", message, { cause }) } };
    }
    return this.#write(events);
  }

  close(): StreamStep {
    return this.#write(this.#reader.close());
  }

  ending(error: HubError | undefined): Uint8Array | undefined {
    return this.#writer.end(error);
  }

  whole(): unknown {
    return this.#writer.whole?.();
  }

  #write(events: readonly AnswerEvent[]): StreamStep {
    const pass: Uint8Array[] = [];
    for (const event of events) {
      if (event.type === "error") return { pass, end: { error: event.error } };
      if (event.type === "end") return { pass, end: {} };
      if (event.type === "usage") this.usage = event.usage;
      if ("text" in event && this.#text.length < this.#textCharsMax) this.#text += event.text;
      const bytes = this.#writer.write(event);
      if (bytes) pass.push(bytes);
      // A head alone is no answer yet: what fails now can still be asked of another model.
      if (event.type !== "start" && event.type !== "usage") this.begun = true;
    }
    return { pass: pass.length > 1 ? [Buffer.concat(pass)] : pass };
  }
}

function textOf(part: OutputPart): string {
  return part.type === "tool_call" ? part.arguments : part.text;
}
