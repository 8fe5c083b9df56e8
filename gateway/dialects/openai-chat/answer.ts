/** A canonical answer as a chat completion. */
import type { FinishReason as ChatFinishReason, ChatUsage } from "../../../sdk/protocol/chat.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { Answer, AnswerChoice, FinishReason } from "../../canonical/answer.ts";
import type { OutputPart } from "../../canonical/request.ts";
import type { AnswerHead } from "../dialect.ts";
import { writeAnnotation } from "./annotations.ts";
import { writeExtraContent } from "./extra-content.ts";
import { writeDetails } from "./reasoning-details.ts";

export function writeChatAnswer(answer: Answer, head: AnswerHead): unknown {
  return {
    id: toChatId(answer.id, head),
    object: "chat.completion",
    created: Math.floor(head.createdAtMs / 1000),
    model: answer.model ?? head.model,
    choices: answer.choices.map(writeChoice),
    ...(answer.usage && { usage: writeChatUsage(answer.usage.usage) }),
  };
}

/** Clients log and match the prefix. */
export function toChatId(id: string | undefined, head: AnswerHead): string {
  const own = id ?? head.id;
  return own.startsWith("chatcmpl-") ? own : `chatcmpl-${own}`;
}

/** OpenAI's counts are inclusive; what was not told of the parts is not told here. */
export function writeChatUsage(usage: UsageVector): ChatUsage {
  const { input = 0, cache_read, cache_write, output = 0, reasoning } = usage;
  const prompt = input + (cache_read ?? 0) + (cache_write ?? 0);
  const completion = output + (reasoning ?? 0);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: {
      cached_tokens: cache_read ?? 0,
      ...(cache_write !== undefined && { cache_write_tokens: cache_write }),
    },
    ...(reasoning !== undefined && {
      completion_tokens_details: { reasoning_tokens: reasoning },
    }),
  };
}

export function toChatFinish(reason: FinishReason): ChatFinishReason {
  switch (reason) {
    case "stop":
    case "stop_sequence":
    case "pause":
      return "stop";
    case "refusal":
      return "content_filter";
    case "length":
    case "tool_calls":
    case "content_filter":
      return reason;
    default:
      return reason satisfies never;
  }
}

function writeChoice({ parts, finish, logprobs }: AnswerChoice, index: number): unknown {
  const texts = textsOf(parts, "text");
  const refusals = textsOf(parts, "refusal");
  const thoughts = parts.filter((part) => part.type === "reasoning");
  const reasoning = thoughts.map(({ text }) => text).join("");
  const said = texts.join("");
  const citations = parts.flatMap((part) => (part.type === "text" ? (part.citations ?? []) : []));
  const calls = parts.filter((part) => part.type === "tool_call");
  return {
    index,
    message: {
      role: "assistant",
      // OpenAI has null where there is none; who only calls tools has said nothing.
      content: texts.length === 0 && (calls.length > 0 || refusals.length > 0) ? null : said,
      refusal: refusals.length === 0 ? null : refusals.join(""),
      // Clients read one or the other.
      ...(reasoning !== "" && { reasoning_content: reasoning, reasoning }),
      ...writeDetails(thoughts),
      ...(citations.length > 0 && {
        annotations: citations.map((one) => writeAnnotation(one, said.length)),
      }),
      ...(calls.length > 0 && { tool_calls: calls.map(writeToolCall) }),
    },
    logprobs: logprobs ? { content: logprobs, refusal: null } : null,
    finish_reason: toChatFinish(finish),
  };
}

function textsOf(parts: readonly OutputPart[], type: "text" | "refusal"): string[] {
  return parts.flatMap((part) => (part.type === type ? [part.text] : []));
}

function writeToolCall(call: Extract<OutputPart, { type: "tool_call" }>): unknown {
  const { id, name } = call;
  if (call.custom) return { id, type: "custom", custom: { name, input: call.arguments } };
  const named = { name, arguments: call.arguments || "{}" };
  return { id, type: "function", function: named, ...writeExtraContent(call.signature) };
}
