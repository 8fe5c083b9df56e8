/** Puts a chat completion together from the chunks that go out, for one that is to be stored. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { SseParser } from "../../../sdk/protocol/sse.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { Gatherer } from "../dialect.ts";
import { writeChatUsage } from "./answer.ts";

type Fields = Record<string, unknown>;
type Call = { id?: unknown; type?: unknown; [field: string]: unknown };
type Choice = {
  message: Fields;
  calls: Map<number, Call>;
  logprobs: { content: unknown[]; refusal: unknown[] } | undefined;
  finish: unknown;
};

/** What it does not know is left out; what it does know may come in any order and in pieces of any size. */
export class ChatGatherer implements Gatherer {
  readonly #parser: SseParser;
  readonly #bytesMax: number;
  #bytes = 0;
  #head: Fields | undefined;
  readonly #choices = new Map<number, Choice>();

  constructor(limits: { frameBytesMax: number; answerBytesMax: number }) {
    // A frame of ours may hold two of an upstream's.
    this.#parser = new SseParser({ frameBytesMax: 2 * limits.frameBytesMax });
    this.#bytesMax = limits.answerBytesMax;
  }

  push(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (this.#bytes > this.#bytesMax) return;
    for (const { data } of this.#parser.push(bytes)) this.#take(parse(data));
  }

  whole(usage: UsageVector | undefined): unknown {
    if (this.#bytes > this.#bytesMax) {
      throw new HubError(
        "request_too_large",
        `The answer is larger than ${this.#bytesMax} bytes, which is the most that is stored.`,
      );
    }
    const choices = [...this.#choices].sort(([a], [b]) => a - b);
    return {
      ...this.#head,
      object: "chat.completion",
      choices: choices.map(([index, { message, calls, logprobs, finish }]) => ({
        index,
        message: {
          ...message,
          // Who only calls tools has said nothing.
          ...(calls.size > 0 && {
            content: message.content || null,
            tool_calls: [...calls.values()],
          }),
        },
        logprobs: logprobs ? nullWhereEmpty(logprobs) : null,
        finish_reason: finish ?? null,
      })),
      ...(usage && { usage: writeChatUsage(usage) }),
    };
  }

  #take(chunk: Fields): void {
    this.#head ??= pick(chunk, headFields);
    for (const piece of listOf(chunk.choices)) {
      const choice = this.#choice(piece.index);
      const delta = fieldsOf(piece.delta);
      for (const field of textFields) addText(choice.message, field, delta[field]);
      if (delta.function_call) addCall(choice.message, "function_call", delta.function_call);
      for (const call of listOf(delta.tool_calls)) takeCall(choice.calls, call);
      if (piece.finish_reason != null) choice.finish = piece.finish_reason;
      const { content, refusal } = fieldsOf(piece.logprobs);
      if (content == null && refusal == null) continue;
      choice.logprobs ??= { content: [], refusal: [] };
      for (const one of listOf(content)) choice.logprobs.content.push(one);
      for (const one of listOf(refusal)) choice.logprobs.refusal.push(one);
    }
  }

  #choice(index: unknown): Choice {
    const at = typeof index === "number" ? index : 0;
    let choice = this.#choices.get(at);
    if (!choice) {
      const message = { role: "assistant", content: null, refusal: null };
      choice = { message, calls: new Map(), logprobs: undefined, finish: undefined };
      this.#choices.set(at, choice);
    }
    return choice;
  }
}

function takeCall(calls: Map<number, Call>, piece: Fields): void {
  const at = typeof piece.index === "number" ? piece.index : calls.size;
  const call = calls.get(at) ?? {};
  calls.set(at, call);
  for (const field of ["id", "type", "extra_content"]) {
    if (piece[field] != null) call[field] = piece[field];
  }
  for (const field of ["function", "custom"]) {
    if (piece[field] != null) addCall(call, field, piece[field]);
  }
}

/** A name comes once, what is said to it in pieces. */
function addCall(to: Fields, field: string, piece: unknown): void {
  const { name, arguments: text, input } = fieldsOf(piece);
  const call = fieldsOf(to[field]);
  to[field] = call;
  if (typeof name === "string") call.name = name;
  addText(call, "arguments", text);
  addText(call, "input", input);
}

function addText(to: Fields, field: string, text: unknown): void {
  if (typeof text !== "string") return;
  const before = to[field];
  to[field] = typeof before === "string" ? before + text : text;
}

function nullWhereEmpty({ content, refusal }: NonNullable<Choice["logprobs"]>): object {
  return {
    content: content.length > 0 ? content : null,
    refusal: refusal.length > 0 ? refusal : null,
  };
}

function pick(from: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(names.flatMap((name) => (name in from ? [[name, from[name]]] : [])));
}

function parse(data: string): Fields {
  try {
    return fieldsOf(JSON.parse(data));
  } catch {
    // The end's mark is no JSON.
    return {};
  }
}

function listOf(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fieldsOf) : [];
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

const headFields = ["id", "created", "model", "system_fingerprint", "service_tier"];
const textFields = ["content", "refusal", "reasoning_content", "reasoning"];
