/** A chat request, checked: what it asks for, in the engine's terms; what we cannot do is refused by name. */
import { z } from "zod";
import { type ChatMessage, chatRequest, messageText } from "../../sdk/protocol/chat.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import {
  type GenerationLimits,
  type GenerationPlan,
  generationFields,
  readGeneration,
} from "../generation/plan.ts";
import { refuseUnsupported, unsupported } from "../generation/unsupported.ts";
import type { RenderOptions, TemplateMessage } from "../models/templates/chat-template.ts";
import { hasForm } from "../output/grammar/structured-output.ts";
import { marksOf, type ToolFormat } from "../output/tools/formats.ts";
import { callsOfMessage, resultOfMessage } from "./tool-messages.ts";
import { readTools, type ToolPlan, toolFields } from "./tools.ts";

export type ChatPlan = GenerationPlan & {
  messages: TemplateMessage[];
  rendering: RenderOptions;
  /** Absent where nothing is to be called. */
  tools: ToolPlan | undefined;
};

/** @throws HubError that names the field */
export function readChatRequest(
  body: unknown,
  limits: GenerationLimits & { toolFormat: ToolFormat | undefined },
): ChatPlan {
  const request = parseOrThrow(extendedRequest, body);
  refuseUnsupported(request, computed);
  const tools = readTools(request, { format: limits.toolFormat, hasOwnForm: hasForm(request) });
  const plan = readGeneration(request, limits, {
    calls: tools?.calls,
    promptField: "messages",
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    logprobs: readLogprobs(request),
  });
  return {
    ...plan,
    // The marks of some families are control tokens.
    skipSpecialTokens: plan.skipSpecialTokens && !(tools && marksOf[tools.format].control),
    messages: toTemplateMessages(request.messages, { knowsTools: limits.toolFormat !== undefined }),
    rendering: { ...readRendering(request), tools: tools?.offered },
    tools,
  };
}

/** How the template is to write the messages. */
export function readRendering(request: z.infer<typeof renderingRequest>): RenderOptions {
  const continueFinal = request.continue_final_message ?? false;
  const generationPrompt = request.add_generation_prompt ?? !continueFinal;
  if (continueFinal && generationPrompt) {
    throw new HubError(
      "invalid_value",
      "'continue_final_message' and 'add_generation_prompt' exclude each other.",
      { param: "continue_final_message" },
    );
  }
  return { continueFinal, generationPrompt, variables: request.chat_template_kwargs ?? {} };
}

function readLogprobs({ logprobs, top_logprobs }: ExtendedRequest): number | undefined {
  if (logprobs) return top_logprobs ?? 0;
  if (!top_logprobs) return undefined;
  throw new HubError("invalid_value", "'top_logprobs' needs 'logprobs' to be true.", {
    param: "top_logprobs",
  });
}

/** @param knowsTools whether the template writes calls and their results; else they would be lost in silence */
export function toTemplateMessages(
  messages: readonly ChatMessage[],
  { knowsTools }: { knowsTools: boolean },
): TemplateMessage[] {
  const all: TemplateMessage[] = [];
  const called = new Map<string, string>();
  for (const [index, message] of messages.entries()) {
    const next = toTemplateMessage(message, index, called);
    if (!knowsTools && next.tool_calls) throw unsupported(`messages[${index}].tool_calls`);
    if (!knowsTools && next.role === "tool") throw unsupported(`messages[${index}].role`);
    for (const call of next.tool_calls ?? []) called.set(call.id, call.function.name);
    all.push(next);
  }
  return all;
}

function toTemplateMessage(
  message: ChatMessage,
  index: number,
  called: ReadonlyMap<string, string>,
): TemplateMessage {
  refuseUnsupportedParts(message, index);
  const { role } = message;
  const text = messageText(message);
  if (text === undefined && role !== "assistant") {
    throw new HubError(
      "missing_required_parameter",
      `Missing required parameter: 'messages[${index}].content'.`,
      { param: `messages[${index}].content` },
    );
  }
  // OpenAI renamed the role for newer models; templates know the old one.
  return {
    role: role === "developer" ? "system" : role,
    content: text ?? "",
    ...callsOfMessage(message, index),
    ...resultOfMessage(message, index, called),
  };
}

/** @throws HubError `unsupported_parameter` for parts of a message that are no text */
function refuseUnsupportedParts(message: ChatMessage, index: number): void {
  const { role, content } = message;
  if (role === "function") throw unsupported(`messages[${index}].role`);
  for (const [field, isHarmless] of Object.entries(harmlessInMessages)) {
    if (field === "tool_call_id" && role === "tool") continue;
    const value = message[field];
    if (value !== undefined && value !== null && !isHarmless(value)) {
      throw unsupported(`messages[${index}].${field}`);
    }
  }
  if (!Array.isArray(content)) return;
  const other = content.findIndex((part) => part.type !== "text");
  if (other !== -1) throw unsupported(`messages[${index}].content[${other}].type`);
}

/** Fields about the chat template, as vLLM has them. */
export const renderingFields = {
  add_generation_prompt: z.boolean().nullish(),
  continue_final_message: z.boolean().nullish(),
  /** Such as `enable_thinking`: single values, since templates are run within bounds for messages. */
  chat_template_kwargs: z
    .record(z.string().max(64), z.union([z.boolean(), z.number(), z.string().max(512)]))
    .refine((all) => Object.keys(all).length <= 32, "expected at most 32 entries")
    .nullish(),
};
const renderingRequest = z.object(renderingFields);

const extendedRequest = chatRequest.extend({
  ...generationFields,
  ...renderingFields,
  ...toolFields,
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
});
const computed: ReadonlySet<string> = new Set(Object.keys(extendedRequest.shape));
type ExtendedRequest = z.infer<typeof extendedRequest>;

const never = () => false;
const isEmptyText = (value: unknown) => value === "";

/** An answer that is sent back as history carries most of them, empty. */
const harmlessInMessages: Record<string, (value: unknown) => boolean> = {
  audio: never,
  function_call: never,
  name: never,
  reasoning: isEmptyText,
  reasoning_content: isEmptyText,
  refusal: isEmptyText,
  tool_call_id: never,
};
