/** A canonical answer as Google's `GenerateContentResponse`. */
import type { ContentLogprob, TokenLogprob } from "../../../sdk/protocol/chat.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { Answer, AnswerChoice, FinishReason } from "../../canonical/answer.ts";
import type { Citation, OutputPart, ToolCallPart } from "../../canonical/request.ts";
import type { AnswerHead } from "../dialect.ts";
import { toThoughtSignature } from "./seal.ts";

type Fields = Record<string, unknown>;

export function writeGeminiAnswer({ id, model, choices, usage }: Answer, head: AnswerHead): Fields {
  return {
    candidates: choices.map((choice, index) => writeCandidate(choice, index)),
    ...(usage && { usageMetadata: writeGeminiUsage(usage.usage) }),
    modelVersion: model ?? head.model,
    responseId: id ?? head.id,
  };
}

function writeCandidate({ parts, finish, logprobs }: AnswerChoice, index: number): Fields {
  const texts = parts.flatMap((part) => (part.type === "text" ? [part] : []));
  const citations = texts.flatMap((part) => part.citations ?? []);
  const written = parts.flatMap(writeOutputPart);
  const isBroken = parts.some((part) => part.type === "tool_call" && !readArguments(part));
  return {
    content: { parts: written, role: "model" },
    finishReason: toGeminiFinish(finish, isBroken),
    index,
    ...(citations.length > 0 && {
      groundingMetadata: writeGrounding(citations, texts.map(({ text }) => text).join("")),
    }),
    ...(logprobs && { logprobsResult: writeLogprobs(logprobs) }),
  };
}

/** @returns nothing for a call whose arguments cannot be read; its candidate's reason to finish tells */
export function writeOutputPart(part: OutputPart): Fields[] {
  switch (part.type) {
    case "text":
    case "refusal":
      return part.text === "" ? [] : [{ text: part.text }];
    case "reasoning": {
      const thoughtSignature = toThoughtSignature(part);
      if (part.text === "" && thoughtSignature === undefined) return [];
      return [{ text: part.text, thought: true, ...(thoughtSignature && { thoughtSignature }) }];
    }
    case "tool_call": {
      const args = readArguments(part);
      if (!args) return [];
      const { id, name, signature } = part;
      const thoughtSignature = toThoughtSignature({
        ...(signature !== undefined && { signature }),
      });
      return [{ functionCall: { id, name, args }, ...(thoughtSignature && { thoughtSignature }) }];
    }
    default:
      return part satisfies never;
  }
}

/** Google's arguments are an object; a text that was cut off is none. */
export function readArguments({ arguments: text, custom }: ToolCallPart): Fields | undefined {
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

/** @param isBroken whether a call cannot be read */
export function toGeminiFinish(reason: FinishReason, isBroken: boolean): string {
  switch (reason) {
    case "length":
      return "MAX_TOKENS";
    case "content_filter":
    case "refusal":
      return "SAFETY";
    case "stop":
    case "stop_sequence":
    case "tool_calls":
    case "pause":
      return isBroken ? "MALFORMED_FUNCTION_CALL" : "STOP";
    default:
      return reason satisfies never;
  }
}

/** The prompt contains what was cached of it; thoughts stand beside the answer. */
export function writeGeminiUsage(usage: UsageVector): Fields {
  const { input = 0, cache_read, cache_write = 0, output = 0, reasoning } = usage;
  const promptTokenCount = input + (cache_read ?? 0) + cache_write;
  return {
    promptTokenCount,
    ...(cache_read !== undefined && { cachedContentTokenCount: cache_read }),
    candidatesTokenCount: output,
    ...(reasoning !== undefined && { thoughtsTokenCount: reasoning }),
    totalTokenCount: promptTokenCount + output + (reasoning ?? 0),
  };
}

/** @param text that the citations count in units of UTF-16, and Google in bytes of UTF-8 */
export function writeGrounding(citations: readonly Citation[], text: string): Fields {
  const bytes = (units: number) => Buffer.byteLength(text.slice(0, units));
  return {
    groundingChunks: citations.map(({ url, title }) => ({ web: { uri: url, title } })),
    groundingSupports: citations.map(({ start, end, quote }, index) => ({
      segment: {
        ...(start !== undefined && { startIndex: bytes(start) }),
        ...(end !== undefined && { endIndex: bytes(end) }),
        ...(quote !== undefined && { text: quote }),
      },
      groundingChunkIndices: [index],
    })),
  };
}

export function writeLogprobs(logprobs: readonly ContentLogprob[]): Fields {
  const write = ({ token, logprob }: TokenLogprob) => ({ token, logProbability: logprob });
  return {
    chosenCandidates: logprobs.map(write),
    topCandidates: logprobs.map(({ top_logprobs }) => ({ candidates: top_logprobs.map(write) })),
  };
}
