/** Reads Bedrock's answers into canonical events. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { AnswerEvent, EventReader, FinishReason } from "../../canonical/answer.ts";
import type { Citation } from "../../canonical/request.ts";
import { markSeal } from "../../canonical/seal.ts";
import { readExceptionFrame } from "./errors.ts";
import { type Frame, FrameReader } from "./frames.ts";
import { parseJson, readBedrockUsage } from "./response.ts";
import {
  type BedrockBlock,
  type BedrockCitation,
  type ConverseAnswer,
  converseEvent,
} from "./schema.ts";

/** The events of a whole answer. */
export function readConverseEvents({ output, stopReason, usage }: ConverseAnswer): AnswerEvent[] {
  const calls = { count: 0 };
  const read = readBedrockUsage(usage);
  return [
    { type: "start" },
    ...output.message.content.flatMap((block) => readBlock(block, calls)),
    ...finish(stopReason ?? "end_turn"),
    ...(read ? [{ type: "usage", usage: read } as const] : []),
  ];
}

export class ConverseReader implements EventReader {
  readonly #frames: FrameReader;
  /** Blocks that are calls, by their index. */
  readonly #calls = new Map<number, number>();
  #stopped = false;
  #ended = false;

  constructor(limits: { frameBytesMax: number }) {
    this.#frames = new FrameReader(limits);
  }

  push(chunk: Uint8Array): AnswerEvent[] {
    return this.#frames.push(chunk).flatMap((frame) => this.#read(frame));
  }

  close(): AnswerEvent[] {
    if (this.#ended) return [];
    if (this.#stopped && !this.#frames.isCut) return [{ type: "end" }];
    const message = "The upstream ended its stream in the middle of the answer.";
    return [{ type: "error", error: new HubError("upstream_error", message) }];
  }

  #read(frame: Frame): AnswerEvent[] {
    if (this.#ended) return [];
    if (frame.isError) {
      this.#ended = true;
      return [{ type: "error", error: readExceptionFrame(frame) }];
    }
    const event = converseEvent.safeParse(parseJson(frame.payload)).data;
    if (!event) return [];
    const index = event.contentBlockIndex ?? 0;
    switch (frame.name) {
      case "messageStart":
        return [{ type: "start" }];
      case "contentBlockStart": {
        const { toolUse } = event.start ?? {};
        if (!toolUse) return [];
        const call = this.#calls.size;
        this.#calls.set(index, call);
        const { toolUseId: id, name } = toolUse;
        return [{ type: "tool_call", choice: 0, call, id, name }];
      }
      case "contentBlockDelta": {
        const { text, toolUse, reasoningContent, citation } = event.delta ?? {};
        const call = this.#calls.get(index);
        if (text) return [{ type: "text", choice: 0, text }];
        if (toolUse?.input && call !== undefined) {
          return [{ type: "tool_arguments", choice: 0, call, text: toolUse.input }];
        }
        if (citation) return [{ type: "citation", choice: 0, citation: readCitation(citation) }];
        return reasoningContent ? readReasoning(reasoningContent) : [];
      }
      case "messageStop": {
        this.#stopped = true;
        const events = finish(event.stopReason ?? "end_turn");
        if (events.at(-1)?.type === "error") this.#ended = true;
        return events;
      }
      case "metadata": {
        const usage = readBedrockUsage(event.usage);
        return usage ? [{ type: "usage", usage }] : [];
      }
      default:
        return [];
    }
  }
}

function readBlock(block: BedrockBlock, calls: { count: number }): AnswerEvent[] {
  const { text, toolUse, reasoningContent, citationsContent } = block;
  if (toolUse) {
    const { toolUseId: id, name, input } = toolUse;
    const call = calls.count++;
    const argued = JSON.stringify(input ?? {});
    return [
      { type: "tool_call", choice: 0, call, id, name },
      { type: "tool_arguments", choice: 0, call, text: argued },
    ];
  }
  if (reasoningContent) {
    const { reasoningText, redactedContent } = reasoningContent;
    return readReasoning({ ...reasoningText, redactedContent });
  }
  if (citationsContent) {
    const said = (citationsContent.content ?? []).map((one) => one.text ?? "").join("");
    return [
      { type: "text", choice: 0, text: said },
      ...(citationsContent.citations ?? []).map(
        (one) => ({ type: "citation", choice: 0, citation: readCitation(one) }) as const,
      ),
    ];
  }
  return text ? [{ type: "text", choice: 0, text }] : [];
}

type Text = string | null | undefined;

function readReasoning({
  text,
  signature,
  redactedContent,
}: {
  text?: Text;
  signature?: Text;
  redactedContent?: Text;
}): AnswerEvent[] {
  const seal = {
    ...(signature && { signature: markSeal("bedrock", signature) }),
    ...(redactedContent && { encrypted: markSeal("bedrock", redactedContent) }),
  };
  return [
    ...(text ? [{ type: "reasoning", choice: 0, text } as const] : []),
    ...(signature || redactedContent
      ? [{ type: "reasoning_seal", choice: 0, ...seal } as const]
      : []),
  ];
}

function readCitation(cited: BedrockCitation): Citation {
  const { title, source, sourceContent, location } = cited;
  const url = location?.web?.url ?? source;
  const quote = (sourceContent ?? []).map((one) => one.text ?? "").join("");
  return { ...(url && { url }), ...(title && { title }), ...(quote && { quote }), source: cited };
}

/** @returns the end of the one choice there is, or what went wrong with it */
function finish(reason: string): AnswerEvent[] {
  if (reason.startsWith("malformed_")) {
    const message = `The model's answer cannot be read (${reason.slice(0, 60)}).`;
    return [{ type: "error", error: new HubError("upstream_error", message) }];
  }
  return [{ type: "finish", choice: 0, reason: finishReasons.get(reason) ?? "stop" }];
}

const finishReasons = new Map<string, FinishReason>(
  Object.entries({
    end_turn: "stop",
    stop_sequence: "stop_sequence",
    max_tokens: "length",
    model_context_window_exceeded: "length",
    tool_use: "tool_calls",
    content_filtered: "content_filter",
    guardrail_intervened: "content_filter",
  }),
);
