/** Reads chat completions into canonical events, and mends what upstreams that nearly speak it get wrong. */
import { z } from "zod";
import type { ContentLogprob } from "../../../sdk/protocol/chat.ts";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { SseParser } from "../../../sdk/protocol/sse.ts";
import type { AnswerEvent, EventReader, FinishReason } from "../../canonical/answer.ts";
import { readErrorFrame } from "./errors.ts";
import { parseJsonOfPython } from "./python-json.ts";
import { readReportedUsage } from "./response.ts";
import { contentLogprob } from "./schema.ts";

/** The events of a whole answer's choices. */
export function readChatEvents(answer: unknown): AnswerEvent[] {
  const { id, model, choices, usage } = chatAnswer.parse(answer);
  const reader = new ChoiceReader();
  const events: AnswerEvent[] = [start(id, model)];
  for (const [index, { message, ...rest }] of choices.entries()) {
    const piece = { index, delta: message, ...rest };
    for (const event of reader.read(piece)) events.push(event);
  }
  for (const event of reader.unfinished()) events.push(event);
  const read = readReportedUsage(usage);
  if (read) events.push({ type: "usage", usage: read });
  return events;
}

/** A stream of chunks. */
export class ChatReader implements EventReader {
  readonly #parser: SseParser;
  readonly #choices = new ChoiceReader();
  #started = false;
  #ended = false;

  constructor({ frameBytesMax }: { frameBytesMax: number }) {
    this.#parser = new SseParser({ frameBytesMax });
  }

  push(chunk: Uint8Array): AnswerEvent[] {
    return this.#parser.push(chunk).flatMap((event) => this.#read(event.data));
  }

  close(): AnswerEvent[] {
    const rest = this.#parser.end().flatMap((event) => this.#read(event.data));
    if (this.#ended) return rest;
    if (this.#choices.allFinished) return [...rest, { type: "end" }];
    const message = "The upstream ended its stream in the middle of the answer.";
    return [...rest, { type: "error", error: new HubError("upstream_error", message) }];
  }

  #read(data: string): AnswerEvent[] {
    if (this.#ended) return [];
    if (data.trim() === "[DONE]") {
      this.#ended = true;
      return [...this.#choices.unfinished(), { type: "end" }];
    }
    const json = parseJsonOfPython(data);
    const error = readErrorFrame(json);
    if (error) {
      this.#ended = true;
      return [{ type: "error", error }];
    }
    const chunk = chatChunk.safeParse(json).data;
    if (!chunk) return [];
    const events: AnswerEvent[] = [];
    if (!this.#started && (chunk.choices?.length ?? 0) > 0) {
      this.#started = true;
      events.push(start(chunk.id, chunk.model));
    }
    for (const choice of chunk.choices ?? []) {
      for (const event of this.#choices.read(choice)) events.push(event);
    }
    const usage = readReportedUsage(chunk.usage ?? chunk.x_groq?.usage);
    if (usage) events.push({ type: "usage", usage });
    return events;
  }
}

type Piece = z.infer<typeof choicePiece>;
type Choice = { calls: CallNumbers; halves: CharacterHalves; finished: boolean };

/** Follows the choices of one answer. */
class ChoiceReader {
  readonly #choices = new Map<number, Choice>();

  get allFinished(): boolean {
    const choices = [...this.#choices.values()];
    return choices.length > 0 && choices.every(({ finished }) => finished);
  }

  read({ index, delta, finish_reason, stop_reason, logprobs }: Piece): AnswerEvent[] {
    const choice = this.#choices.get(index) ?? {
      calls: new CallNumbers(),
      halves: new CharacterHalves(),
      finished: false,
    };
    this.#choices.set(index, choice);
    const events: AnswerEvent[] = [];
    const thought = delta?.reasoning_content ?? delta?.reasoning;
    if (thought) events.push({ type: "reasoning", choice: index, text: thought });
    for (const event of readContent(delta?.content, index, logprobs?.content ?? undefined)) {
      for (const joined of choice.halves.join(event)) events.push(joined);
    }
    for (const annotation of delta?.annotations ?? []) {
      events.push(...readAnnotation(annotation, index));
    }
    if (delta?.refusal) events.push({ type: "refusal", choice: index, text: delta.refusal });
    for (const call of delta?.tool_calls ?? []) events.push(...choice.calls.read(call, index));
    if (delta?.function_call) {
      events.push(...choice.calls.read({ function: delta.function_call }, index));
    }
    if (finish_reason != null && !choice.finished) {
      choice.finished = true;
      const reason = toFinish(finish_reason, choice.calls.count > 0);
      // vLLM says which of the stop strings came; a number is a token.
      const stopped = reason === "stop" && typeof stop_reason === "string";
      events.push(
        stopped
          ? { type: "finish", choice: index, reason: "stop_sequence", stopSequence: stop_reason }
          : { type: "finish", choice: index, reason },
      );
    }
    return events;
  }

  /** Some never say why they stopped. */
  unfinished(): AnswerEvent[] {
    return [...this.#choices].flatMap(([choice, state]): AnswerEvent[] => {
      if (state.finished) return [];
      state.finished = true;
      return [{ type: "finish", choice, reason: state.calls.count > 0 ? "tool_calls" : "stop" }];
    });
  }
}

/** Tokens may end in the middle of a character, and some upstreams then send half a surrogate pair in each delta. */
class CharacterHalves {
  #first = "";

  join(event: AnswerEvent): AnswerEvent[] {
    if (event.type !== "text") return [event];
    const text = this.#first + event.text;
    this.#first = /[\ud800-\udbff]$/.exec(text)?.[0] ?? "";
    const whole = this.#first === "" ? text : text.slice(0, -1);
    return whole === "" && !event.logprobs ? [] : [{ ...event, text: whole }];
  }
}

/**
 * Numbers calls from 0 in the order in which they begin. Some upstreams give no index, some give 0 to all: a new id
 * is a new call, whatever its index says.
 */
class CallNumbers {
  readonly #byIndex = new Map<number, { call: number; id: string | undefined }>();
  #last = 0;
  count = 0;

  read(piece: CallPiece, choice: number): AnswerEvent[] {
    const index = piece.index ?? this.#last;
    this.#last = index;
    const known = this.#byIndex.get(index);
    const name = piece.function?.name ?? piece.custom?.name;
    const isNew = !known || (piece.id != null && piece.id !== "" && piece.id !== known.id);
    const text = argumentsText(piece.function?.arguments ?? piece.custom?.input);
    const argued = (call: number): AnswerEvent[] =>
      text === "" ? [] : [{ type: "tool_arguments", choice, call, text }];
    if (!isNew) return argued(known.call);
    const call = this.count++;
    const id = piece.id || `call_${choice}_${call}`;
    this.#byIndex.set(index, { call, id });
    const custom = piece.custom ? { custom: true } : {};
    return [{ type: "tool_call", choice, call, id, name: name ?? "", ...custom }, ...argued(call)];
  }
}

function readContent(
  content: z.infer<typeof pieceContent>,
  choice: number,
  logprobs: ContentLogprob[] | undefined,
): AnswerEvent[] {
  if (typeof content === "string") {
    if (content === "" && !logprobs) return [];
    return [{ type: "text", choice, text: content, ...(logprobs && { logprobs }) }];
  }
  return (content ?? []).flatMap((part): AnswerEvent[] => {
    const thought = Array.isArray(part.thinking)
      ? part.thinking.map(({ text }) => text ?? "").join("")
      : part.thinking;
    if (thought) return [{ type: "reasoning", choice, text: thought }];
    return part.text ? [{ type: "text", choice, text: part.text }] : [];
  });
}

function readAnnotation({ url_citation: cited }: Annotation, choice: number): AnswerEvent[] {
  if (!cited) return [];
  const { url, title, start_index: start, end_index: end } = cited;
  const place = { ...(start != null && { start }), ...(end != null && { end }) };
  const citation = { url, ...(title != null && { title }), ...place };
  return [{ type: "citation", choice, citation }];
}

/** An object where text belongs is written as text. */
function argumentsText(value: unknown): string {
  if (value == null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Some say "stop" although they called. */
function toFinish(reason: string, called: boolean): FinishReason {
  switch (reason) {
    case "length":
    case "model_length":
      return "length";
    case "content_filter":
      return "content_filter";
    default:
      return called ? "tool_calls" : "stop";
  }
}

function start(id: string | null | undefined, model: string | null | undefined): AnswerEvent {
  return { type: "start", ...(id && { id }), ...(model && { model }) };
}

const pieceContent = z
  .union([
    z.string(),
    // Mistral's parts.
    z.array(
      z.object({
        type: z.string(),
        text: z.string().nullish(),
        thinking: z
          .union([z.string(), z.array(z.object({ text: z.string().nullish() }))])
          .nullish(),
      }),
    ),
  ])
  .nullish()
  .catch(undefined);
const functionPiece = z.object({ name: z.string().nullish(), arguments: z.unknown().optional() });
const callPiece = z.object({
  index: z.int().nonnegative().nullish().catch(undefined),
  id: z.string().nullish(),
  function: functionPiece.nullish(),
  custom: z.object({ name: z.string().nullish(), input: z.unknown().optional() }).nullish(),
});
type CallPiece = { [key in keyof z.infer<typeof callPiece>]?: z.infer<typeof callPiece>[key] };
const place = z.int().nonnegative().nullish().catch(undefined);
const annotation = z.object({
  url_citation: z
    .object({ url: z.string(), title: z.string().nullish(), start_index: place, end_index: place })
    .nullish()
    .catch(undefined),
});
type Annotation = z.infer<typeof annotation>;
const piece = z
  .object({
    content: pieceContent,
    annotations: z.array(annotation).nullish().catch(undefined),
    refusal: z.string().nullish().catch(undefined),
    reasoning_content: z.string().nullish().catch(undefined),
    reasoning: z.string().nullish().catch(undefined),
    tool_calls: z.array(callPiece).nullish().catch(undefined),
    function_call: functionPiece.nullish().catch(undefined),
  })
  .nullish();
const logprobs = z
  .object({
    content: z.array(contentLogprob).nullish(),
  })
  .nullish()
  .catch(undefined);
const finish = {
  finish_reason: z.string().nullish(),
  stop_reason: z.union([z.string(), z.number()]).nullish().catch(undefined),
};
const choicePiece = z.object({
  index: z.int().min(0).max(127).default(0),
  delta: piece,
  ...finish,
  logprobs,
});
const names = { id: z.string().nullish(), model: z.string().nullish() };
const chatChunk = z.object({
  ...names,
  choices: z.array(choicePiece).nullish().catch(undefined),
  usage: z.unknown().optional(),
  x_groq: z.object({ usage: z.unknown().optional() }).nullish().catch(undefined),
});
const chatAnswer = z.object({
  ...names,
  choices: z.array(z.object({ message: piece, ...finish, logprobs })),
  usage: z.unknown().optional(),
});
