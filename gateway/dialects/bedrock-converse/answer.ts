/** A canonical answer as Converse has it. */
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { Answer, FinishReason } from "../../canonical/answer.ts";
import type { Citation, OutputPart, ToolCallPart } from "../../canonical/request.ts";
import type { AnswerHead } from "../dialect.ts";
import { toClientSeal } from "./seal.ts";

type Fields = Record<string, unknown>;

/** Converse asks for one answer, so there is one choice. */
export function writeConverseAnswer({ choices, usage }: Answer, head: AnswerHead): Fields {
  const { parts = [], finish = "stop" } = choices[0] ?? {};
  const isBroken = parts.some((part) => part.type === "tool_call" && !readInput(part));
  return {
    output: { message: { role: "assistant", content: parts.flatMap(writePart) } },
    stopReason: isBroken ? "malformed_tool_use" : toStopReason(finish),
    ...(usage && { usage: writeUsage(usage.usage) }),
    metrics: { latencyMs: head.nowMs() - head.createdAtMs },
  };
}

/** @returns nothing for a call whose input cannot be read; the reason to stop tells */
function writePart(part: OutputPart): Fields[] {
  switch (part.type) {
    case "text": {
      const { text, citations } = part;
      if (!citations) return text === "" ? [] : [{ text }];
      const citationsContent = { content: [{ text }], citations: citations.map(writeCitation) };
      return [{ citationsContent }];
    }
    case "refusal":
      return [{ text: part.text }];
    case "reasoning": {
      const { redactedContent, signature } = toClientSeal(part);
      if (redactedContent !== undefined) {
        const shown = part.text === "" ? [] : [{ reasoningText: { text: part.text } }];
        return [...shown, { redactedContent }].map((one) => ({ reasoningContent: one }));
      }
      const reasoningText = { text: part.text, ...(signature !== undefined && { signature }) };
      return [{ reasoningContent: { reasoningText } }];
    }
    case "tool_call": {
      const input = readInput(part);
      return input ? [{ toolUse: { toolUseId: part.id, name: part.name, input } }] : [];
    }
    default:
      return part satisfies never;
  }
}

/** An input is an object; a text that was cut off is none. */
function readInput({ arguments: text, custom }: ToolCallPart): Fields | undefined {
  if (custom) return { input: text };
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Fields) : undefined;
  } catch {
    return undefined;
  }
}

export function writeCitation({ url, title, quote }: Citation): Fields {
  return {
    ...(title !== undefined && { title }),
    ...(quote !== undefined && { sourceContent: [{ text: quote }] }),
    ...(url !== undefined && { source: url, location: { web: { url } } }),
  };
}

export function toStopReason(reason: FinishReason): string {
  switch (reason) {
    case "stop":
    case "pause":
      return "end_turn";
    case "stop_sequence":
      return "stop_sequence";
    case "length":
      return "max_tokens";
    case "tool_calls":
      return "tool_use";
    case "content_filter":
    case "refusal":
      return "content_filtered";
    default:
      return reason satisfies never;
  }
}

/** What was cached stands beside the input; thoughts are part of the output. */
export function writeUsage(usage: UsageVector): Fields {
  const { input = 0, cache_read, cache_write, output = 0, reasoning = 0 } = usage;
  const outputTokens = output + reasoning;
  return {
    inputTokens: input,
    outputTokens,
    totalTokens: input + (cache_read ?? 0) + (cache_write ?? 0) + outputTokens,
    ...(cache_read !== undefined && { cacheReadInputTokens: cache_read }),
    ...(cache_write !== undefined && { cacheWriteInputTokens: cache_write }),
  };
}
