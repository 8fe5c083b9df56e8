/** How one call is put to one provider: its bytes pass where both speak alike, else they are translated. */
import type { Model } from "../../sdk/protocol/catalog.ts";
import { asHubError, HubError, invariant } from "../../sdk/protocol/errors.ts";
import {
  type Answer,
  type AnswerEvent,
  type EventReader,
  gatherAnswer,
} from "../canonical/answer.ts";
import { asFunctions, FreeTextCalls } from "../canonical/free-text-tools.ts";
import { withoutFurtherCalls } from "../canonical/one-call.ts";
import type { CanonicalRequest, OutputPart, Tool } from "../canonical/request.ts";
import type { Heard } from "../content-log/hearing.ts";
import type { AnswerHead, Call, EventWriter } from "../dialects/dialect.ts";
import {
  CompletionsReader,
  CompletionsWriter,
  readCompletionEvents,
} from "../dialects/openai-passing/stream.ts";
import type { AnswerFilter } from "../guardrails/answer-filter.ts";
import type { Guard } from "../guardrails/guard.ts";
import { membersOf } from "../http/json-text.ts";
import type { ReadUsage } from "../ledger/usage.ts";
import {
  type Format,
  type PassingFormat,
  type Relayed,
  RelayedSoFar,
  type SpokenRequest,
  type StreamLimits,
} from "../providers/format.ts";
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
  readAnswer(bytes: Uint8Array, header: (name: string) => string | undefined): ProviderAnswer;
  openStream(limits: AnswerLimits, contentType?: string): AnswerStream;
  /** Reads answers without telling them, for what the upstream says of them; absent where its format tells nothing. */
  reading?: EventReading | undefined;
  /** What the provider said, for the log of contents: of an answer that is over, or broke off. */
  readHeard(bytes: Uint8Array, about: HeardAs): ReturnType<Heard["read"]>;
};

export type EventReading = Pick<Format, "readAnswer" | "openReader">;

type HeardAs = { stream: boolean; contentType: string | undefined; limits: AnswerLimits };

/** What a client's dialect keeps of a translated answer is bounded as a whole answer is. */
type AnswerLimits = StreamLimits & { answerBytesMax: number; mediaFrameBytesMax?: number };

/** @throws HubError what the provider's format has no place for and would be missed */
export function openConversation(
  call: Call,
  { provider, target, context }: { provider: Provider; target: Target; context: CallContext },
): Conversation {
  const { dialect } = call;
  const { format, also = [] } = provider;
  const head = headOf(call, context);
  const alike = [format, ...also].find(
    (one): one is PassingFormat =>
      one.name === dialect.format && "openPassing" in one && (one.takes?.(call.body) ?? true),
  );
  if (alike) {
    if (
      call.stream &&
      isGuarded(call) &&
      !("openReader" in alike || alike.name === "openai-completions")
    ) {
      throw new HubError(
        "unsupported_parameter",
        "Unsupported parameter: 'stream' is not supported here where guardrails of the project look at answers.",
        { param: "stream" },
      );
    }
    return {
      streamType: alike.streamType,
      request: provider.writeRequest(asItCame(call), target, context),
      reading: readingOf(alike),
      readHeard: (bytes, about) => heardIn(alike, bytes, about),
      readAnswer(bytes, header) {
        const { model, body } = call;
        const read = alike.readPassing(bytes, {
          model,
          body,
          contentType: header("content-type"),
          header,
        });
        return retell({ bytes, ...read, ...toldBy(alike, bytes) }, call, head);
      },
      openStream(limits, contentType) {
        const { retell } = dialect;
        const { guard } = call;
        if (guard && isGuarded(call)) {
          return gathered(guardedStream(alike, { call, head, guard }, limits), call, limits);
        }
        const { wantsUsage, body } = call;
        const bare = alike.openPassing({ wantsUsage, body, contentType, ...limits });
        const passing =
          retell && call.retold ? retell.stream(bare, () => call.retold?.(head), limits) : bare;
        if (dialect.reframe) return dialect.reframe(passing);
        const stream = Object.assign(passing, {
          ending: (error: HubError | undefined) =>
            (error ? undefined : passing.held?.()) ??
            dialect.endOfStream(error, { head, soFar: error && passing.soFar?.() }),
        });
        return gathered(stream, call, limits);
      },
    };
  }
  const { spoken, dropped, oneCall, freeText } = translate(call, format, target.model);
  const heeding = () => {
    const calls = new FreeTextCalls(freeText);
    return (events: AnswerEvent[]) => calls.read(oneCall ? withoutFurtherCalls(events) : events);
  };
  const request = provider.writeRequest(spoken, target, context);
  return {
    streamType: format.streamType,
    request: { ...request, dropped: [...dropped, ...request.dropped] },
    reading: format,
    readHeard: (bytes, about) => heardIn(format, bytes, about),
    readAnswer(bytes) {
      const answer = gatherAnswer(heeding()(format.readAnswer(bytes)));
      const text = {
        toString: () => answer.choices.flatMap(({ parts }) => parts.map(textOf)).join(""),
      };
      const write = () => {
        const whole = dialect.writeAnswer(answer, head);
        return { whole, bytes: Buffer.from(JSON.stringify(whole)) };
      };
      return { ...write(), write, usage: answer.usage, text, told: () => toldIn(answer) };
    },
    openStream(limits) {
      const reader = format.openReader(limits);
      const heeded = heeding();
      const heedingReader: EventReader = {
        push: (chunk) => heeded(reader.push(chunk)),
        close: () => heeded(reader.close()),
      };
      const about = { reader: heedingReader, writer: dialect.openWriter(head), guard: call.guard };
      const stream = new TranslatedStream(about, limits);
      return gathered(stream, call, limits);
    },
  };
}

function readingOf(format: PassingFormat | Format): EventReading | undefined {
  if ("openReader" in format) return format;
  return format.name === "openai-completions" ? completions : undefined;
}

const completions: EventReading = {
  readAnswer: readCompletionEvents,
  openReader: (limits) => new CompletionsReader(limits),
};

export function headOf(
  call: Call,
  context: Pick<CallContext, "requestId" | "startedAtMs" | "nowMs">,
): AnswerHead {
  return {
    id: context.requestId,
    createdAtMs: context.startedAtMs,
    nowMs: context.nowMs,
    request: () => call.echo?.() ?? call.body,
    model: call.model,
    wantsUsage: call.wantsUsage,
  };
}

/** A whole answer that passes, with what its call has to say of the request; told again when it could not be kept. */
function retell(answer: ProviderAnswer, call: Call, head: AnswerHead): ProviderAnswer {
  const { retell } = call.dialect;
  if (!retell || !call.retold) return answer;
  const write = () => {
    const facts = call.retold?.(head);
    if (!facts) return answer;
    const whole = retell.answer(answer.whole, facts);
    return { whole, bytes: Buffer.from(JSON.stringify(whole)) };
  };
  return { ...answer, ...write(), write };
}

/** Whether guards look at what is said; speech says nothing that can be read. */
function isGuarded({ guard, dialect }: Call): boolean {
  return guard?.watchesAnswer === true && dialect.format !== "openai-speech";
}

/** A stream whose bytes would pass, read and written anew because its words are looked at. */
function guardedStream(
  format: PassingFormat | Format,
  { call, head, guard }: { call: Call; head: AnswerHead; guard: Guard },
  limits: AnswerLimits,
): AnswerStream {
  if ("openReader" in format) {
    const about = {
      reader: format.openReader(limits),
      writer: call.dialect.openWriter(head),
      guard,
    };
    return new TranslatedStream(about, limits);
  }
  invariant(
    format.name === "openai-completions",
    "streams whose words nobody reads were refused before",
  );
  const about = {
    reader: new CompletionsReader(limits),
    writer: new CompletionsWriter(head),
    guard,
  };
  return new TranslatedStream(about, limits);
}

/** Of what is in no words there is nothing. */
function heardIn(
  format: PassingFormat | Format,
  bytes: Uint8Array,
  { stream, contentType = "application/json", limits }: HeardAs,
): ReturnType<Heard["read"]> {
  const { name } = format;
  if ("openReader" in format) {
    if (!stream) return gatherAnswer(format.readAnswer(bytes));
    return gatherHeard(format.openReader(limits), bytes);
  }
  if (stream) {
    const isRead = name === "openai-completions";
    return isRead ? gatherHeard(new CompletionsReader(limits), bytes) : undefined;
  }
  const isJson = contentType.startsWith("application/json");
  if (name === "openai-embeddings" || (!isJson && !contentType.startsWith("text/")))
    return undefined;
  const text = Buffer.from(bytes).toString("utf8");
  return { body: isJson ? JSON.parse(text) : text };
}

/** What there is of a stream, however it ended. */
function gatherHeard(reader: EventReader, bytes: Uint8Array): Answer {
  const events = [...reader.push(bytes), ...reader.close()];
  return gatherAnswer(events.filter(({ type }) => type !== "error"));
}

/** Follows a stream where its call wants to keep the whole of it, and nobody else puts it together. */
function gathered(
  stream: AnswerStream,
  call: Call,
  limits: { frameBytesMax: number; answerBytesMax: number },
): AnswerStream {
  const gatherer = call.gather?.(limits);
  if (!gatherer) return stream;
  const follow = (step: StreamStep): StreamStep => {
    for (const bytes of step.pass) gatherer.push(bytes);
    return step;
  };
  return {
    get begun() {
      return stream.begun;
    },
    get usage() {
      return stream.usage;
    },
    relayed: stream.relayed,
    push: (chunk) => follow(stream.push(chunk)),
    close: () => follow(stream.close()),
    ending: (error) => stream.ending(error),
    whole: () => gatherer.whole(stream.usage?.usage),
  };
}

/** For a provider that speaks as the client does. */
export function asItCame(call: Call): SpokenRequest {
  const { dialect, stream, source, headers, form } = call;
  const passed = call.passed?.();
  const body = passed ?? call.body;
  const kept = {
    ...(source && !passed && { source }),
    ...(headers && { headers }),
    ...(form && { form }),
  };
  return { body: call.guard?.mask(body) ?? body, stream, format: dialect.format, ...kept };
}

/**
 * @returns with the names of tools that take free text, and are functions to this format
 * @throws HubError what the format has no place for and would be missed
 */
export function translate(
  call: Call,
  format: Format,
  model: Model,
): {
  spoken: SpokenRequest;
  dropped: string[];
  oneCall: boolean;
  freeText: ReadonlySet<string>;
} {
  const canonical = within(call.canonical(), model);
  const { request: asked, names: freeText } = format.takesFreeText
    ? { request: canonical, names: new Set<string>() }
    : asFunctions(canonical);
  const { tools, left } = withoutForeignTools(asked.tools);
  const written = format.writeBody({ ...asked, tools, model: model.upstreamModel });
  const { dropped } = written;
  const body = call.guard?.mask(written.body) ?? written.body;
  return {
    spoken: { body, stream: call.stream, format: format.name, ...withSeed(body, call.source) },
    dropped: [...dropped, ...left],
    oneCall: asked.parallelToolCalls === false,
    freeText,
  };
}

/** A 64-bit seed goes out in the characters in which it came, whatever the provider calls it. */
function withSeed(
  body: Readonly<Record<string, unknown>>,
  source: Call["source"],
): Pick<SpokenRequest, "source"> {
  const name = ["seed", "random_seed"].find((one) => body[one] !== undefined);
  const text = source && membersOf(source.text).get("seed");
  if (name === undefined || text === undefined) return {};
  return { source: { value: { [name]: body[name] }, text: `{"${name}":${text}}` } };
}

/**
 * Agents name what their own provider runs beside the functions that they run themselves, and go on without it; what
 * was asked for alone is wanted, and stays to be refused.
 */
function withoutForeignTools(tools: readonly Tool[]): { tools: Tool[]; left: string[] } {
  const own = tools.filter((tool) => tool.type !== "native");
  if (own.length === 0) return { tools: [...tools], left: [] };
  const types = tools.flatMap((tool) =>
    tool.type === "native" ? [`tools.${tool.tool.type ?? Object.keys(tool.tool)[0]}`] : [],
  );
  return { tools: own, left: [...new Set(types)] };
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
  readonly relayed: Relayed;
  readonly #reader: EventReader;
  readonly #writer: EventWriter;
  readonly #filter: AnswerFilter | undefined;
  /** What a guard lets pass only when all of it is known. */
  readonly #held: AnswerEvent[] = [];
  readonly #textCharsMax: number;
  readonly #answerBytesMax: number;
  #text = "";
  #answerBytes = 0;

  constructor(
    {
      reader,
      writer,
      guard,
    }: { reader: EventReader; writer: EventWriter; guard: Guard | undefined },
    { relayedTextCharsMax, answerBytesMax }: AnswerLimits,
  ) {
    this.#reader = reader;
    this.#writer = writer;
    this.#filter = guard?.watchesAnswer ? guard.openFilter() : undefined;
    this.#textCharsMax = relayedTextCharsMax;
    this.#answerBytesMax = answerBytesMax;
    this.relayed = new RelayedSoFar(() => this.#text);
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
      if (event.type === "usage") this.usage = event.usage;
      this.#answerBytes += bytesKept(event);
      if (this.#answerBytes > this.#answerBytesMax) {
        const message = `The upstream's answer is larger than ${this.#answerBytesMax} bytes.`;
        return { pass, end: { error: new HubError("upstream_error", message) } };
      }
      if ("text" in event && this.#text.length < this.#textCharsMax) this.#text += event.text;
      // A head alone is no answer yet: what fails now can still be asked of another model.
      if (!withoutWords.has(event.type)) this.begun = true;
      const last = this.#tell(event, pass);
      if (last) return { pass, ...last };
    }
    return { pass: pass.length > 1 ? [Buffer.concat(pass)] : pass };
  }

  /** @returns how the stream ends, where it does */
  #tell(event: AnswerEvent, pass: Uint8Array[]): Omit<StreamStep, "pass"> | undefined {
    let told: readonly AnswerEvent[];
    try {
      told = this.#filter?.pass(event) ?? [event];
    } catch (error) {
      return { end: { error: asHubError(error) } };
    }
    for (const one of told) {
      if (one.type === "error") return { end: { error: one.error } };
      if (this.#filter?.isHeld) {
        if (one.type === "end") return { later: this.#whenChecked() };
        this.#held.push(one);
        continue;
      }
      if (one.type === "end") return { end: {} };
      const bytes = this.#writer.write(one);
      if (bytes) pass.push(bytes);
    }
    return undefined;
  }

  async #whenChecked(): Promise<StreamStep> {
    try {
      await this.#filter?.checkHeld();
    } catch (error) {
      return { pass: [], end: { error: asHubError(error) } };
    }
    return { pass: this.#held.flatMap((event) => this.#writer.write(event) ?? []), end: {} };
  }
}

const withoutWords: ReadonlySet<AnswerEvent["type"]> = new Set(["start", "usage", "end", "error"]);

/** About what writers keep of an event until the answer's end. */
function bytesKept(event: AnswerEvent): number {
  switch (event.type) {
    case "text":
      return event.text.length + tokenBytes * (event.logprobs?.length ?? 0);
    case "refusal":
    case "reasoning":
    case "tool_arguments":
      return event.text.length;
    case "reasoning_seal":
      return pieceBytes + (event.signature?.length ?? 0) + (event.encrypted?.length ?? 0);
    case "tool_call":
    case "citation":
      return pieceBytes;
    default:
      return 0;
  }
}

/** An object with a few short strings, and a token with those in its place. */
const pieceBytes = 256;
const tokenBytes = 1024;

function toldBy(format: PassingFormat | Format, bytes: Uint8Array): Pick<ProviderAnswer, "told"> {
  if (!("openReader" in format)) return {};
  return { told: () => toldIn(gatherAnswer(format.readAnswer(bytes))) };
}

/** What is said to people, and no thought or call. */
function toldIn({ choices }: Answer): string {
  return choices
    .flatMap(({ parts }) =>
      parts.map((part) => (part.type === "text" || part.type === "refusal" ? part.text : "")),
    )
    .join("");
}

function textOf(part: OutputPart): string {
  return part.type === "tool_call" ? part.arguments : part.text;
}
