/** Reads Anthropic's messages into canonical events. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { SseParser } from "../../../sdk/protocol/sse.ts";
import type { AnswerEvent, EventReader, FinishReason } from "../../canonical/answer.ts";
import type { Citation } from "../../canonical/request.ts";
import { markSeal } from "../../canonical/seal.ts";
import { readErrorEvent } from "./errors.ts";
import {
  type AnthropicMessage,
  type ContentBlock,
  type StopFields,
  type StreamEvent,
  streamEvent,
} from "./schema.ts";
import { readAnthropicUsage, UsageTotals } from "./usage.ts";

/** The events of a whole answer. */
export function readMessageEvents(message: AnthropicMessage): AnswerEvent[] {
  const calls = new Calls();
  const usage = readAnthropicUsage(message.usage);
  return [
    readStart(message),
    ...message.content.flatMap((block, index) => [
      ...readBlock(block, index, calls),
      ...calls.end(index),
    ]),
    ...readStop(message),
    ...(usage ? [{ type: "usage", usage } as const] : []),
  ];
}

export class MessageReader implements EventReader {
  readonly #parser: SseParser;
  readonly #calls = new Calls();
  readonly #totals = new UsageTotals();
  #stopped = false;
  #ended = false;

  constructor({ frameBytesMax }: { frameBytesMax: number }) {
    this.#parser = new SseParser({ frameBytesMax });
  }

  push(chunk: Uint8Array): AnswerEvent[] {
    return this.#parser.push(chunk).flatMap(({ data }) => this.#read(data));
  }

  close(): AnswerEvent[] {
    const rest = this.#parser.end().flatMap(({ data }) => this.#read(data));
    if (this.#ended) return rest;
    if (this.#stopped) return [...rest, { type: "end" }];
    const message = "The upstream ended its stream in the middle of the answer.";
    return [...rest, { type: "error", error: new HubError("upstream_error", message) }];
  }

  #read(data: string): AnswerEvent[] {
    if (this.#ended) return [];
    const json = parseJson(data);
    const event = streamEvent.safeParse(json).data;
    if (event) return this.#readEvent(event);
    const error = readErrorEvent(json);
    if (!error) return [];
    this.#ended = true;
    return [{ type: "error", error }];
  }

  #readEvent(event: StreamEvent): AnswerEvent[] {
    switch (event.type) {
      case "message_start":
        return [readStart(event.message), ...this.#readUsage(event.message.usage)];
      case "content_block_start":
        return readBlock(event.content_block, event.index, this.#calls);
      case "content_block_delta":
        return this.#readDelta(event);
      case "content_block_stop":
        return this.#calls.end(event.index);
      case "message_delta": {
        const stop = readStop(event.delta);
        if (stop.length > 0) this.#stopped = true;
        return [...stop, ...this.#readUsage(event.usage)];
      }
      case "message_stop":
        this.#ended = true;
        return [{ type: "end" }];
      default:
        return event satisfies never;
    }
  }

  #readDelta({
    index,
    delta,
  }: Extract<StreamEvent, { type: "content_block_delta" }>): AnswerEvent[] {
    const { text, thinking, signature, partial_json, citation } = delta;
    if (text) return [{ type: "text", choice: 0, text }];
    if (thinking) return [{ type: "reasoning", choice: 0, text: thinking }];
    if (signature) return [sealOf(signature)];
    if (partial_json) return this.#calls.argue(index, partial_json);
    return citation ? [{ type: "citation", choice: 0, citation: readCitation(citation) }] : [];
  }

  #readUsage(reported: unknown): AnswerEvent[] {
    this.#totals.add(reported);
    const usage = this.#totals.read();
    return usage ? [{ type: "usage", usage }] : [];
  }
}

/** Numbers calls apart from blocks. A call's input may stand in its beginning, where nothing follows it. */
class Calls {
  readonly #open = new Map<number, { call: number; input: unknown; argued: boolean }>();
  #count = 0;

  begin(index: number, { id, name, input }: ContentBlock): AnswerEvent {
    const call = this.#count++;
    this.#open.set(index, { call, input, argued: false });
    return { type: "tool_call", choice: 0, call, id: id ?? `toolu_${call}`, name: name ?? "" };
  }

  argue(index: number, text: string): AnswerEvent[] {
    const open = this.#open.get(index);
    // Tools that run at Anthropic have inputs too, and are none of the client's calls.
    if (!open) return [];
    open.argued = true;
    return [{ type: "tool_arguments", choice: 0, call: open.call, text }];
  }

  end(index: number): AnswerEvent[] {
    const open = this.#open.get(index);
    this.#open.delete(index);
    if (!open || open.argued) return [];
    const text = JSON.stringify(open.input ?? {});
    return [{ type: "tool_arguments", choice: 0, call: open.call, text }];
  }
}

function readStart({
  id,
  model,
}: {
  id?: string | null | undefined;
  model?: string | null | undefined;
}): AnswerEvent {
  return { type: "start", ...(id && { id }), ...(model && { model }) };
}

function readBlock(block: ContentBlock, index: number, calls: Calls): AnswerEvent[] {
  switch (block.type) {
    case "text":
      return [
        ...(block.text ? [{ type: "text", choice: 0, text: block.text } as const] : []),
        ...(block.citations ?? []).map(
          (one) => ({ type: "citation", choice: 0, citation: readCitation(one) }) as const,
        ),
      ];
    case "thinking":
      return [
        ...(block.thinking
          ? [{ type: "reasoning", choice: 0, text: block.thinking } as const]
          : []),
        ...(block.signature ? [sealOf(block.signature)] : []),
      ];
    case "redacted_thinking": {
      const encrypted = markSeal("anthropic", block.data ?? "");
      return [{ type: "reasoning_seal", choice: 0, encrypted }];
    }
    case "tool_use":
      return [calls.begin(index, block)];
    default:
      // What Anthropic's own tools did; who asked for them speaks its dialect and gets it as it is.
      return [];
  }
}

function sealOf(signature: string): AnswerEvent {
  return {
    type: "reasoning_seal",
    choice: 0,
    signature: markSeal("anthropic", signature),
  };
}

function readStop({ stop_reason, stop_sequence, stop_details }: StopFields): AnswerEvent[] {
  if (stop_reason == null) return [];
  const explained = stop_reason === "refusal" ? stop_details?.explanation : undefined;
  return [
    ...(explained ? [{ type: "refusal", choice: 0, text: explained } as const] : []),
    {
      type: "finish",
      choice: 0,
      reason: finishReasons.get(stop_reason) ?? "stop",
      ...(stop_sequence != null && { stopSequence: stop_sequence }),
    },
  ];
}

function readCitation(source: { [field: string]: unknown }): Citation {
  const { url, title = source.document_title, cited_text } = source;
  return {
    ...(typeof url === "string" && { url }),
    ...(typeof title === "string" && { title }),
    ...(typeof cited_text === "string" && { quote: cited_text }),
    source,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const finishReasons = new Map<string, FinishReason>(
  Object.entries({
    end_turn: "stop",
    stop_sequence: "stop_sequence",
    max_tokens: "length",
    model_context_window_exceeded: "length",
    tool_use: "tool_calls",
    pause_turn: "pause",
    refusal: "refusal",
  }),
);
