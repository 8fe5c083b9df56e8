/** The response object, which a whole answer is and a stream repeats. */
import { type HubError, toErrorBody } from "../../../sdk/protocol/errors.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { FinishReason } from "../../canonical/answer.ts";
import type { AnswerHead } from "../dialect.ts";
import type { OutputItem } from "./items.ts";

export type ResponseState = {
  status: "queued" | "in_progress" | "completed" | "incomplete" | "failed";
  output: readonly OutputItem[];
  usage?: UsageVector | undefined;
  finish?: FinishReason | undefined;
  error?: HubError | undefined;
  completedAtMs?: number | undefined;
};

/** Clients match and log the prefix; the rest is the request's own id. */
export function toResponseId({ id }: AnswerHead): string {
  return `resp_${id.slice(id.indexOf("_") + 1)}`;
}

/** A field that names a conversation, by its id or as an object. */
export function toConversation(asked: unknown): { id: string } | null {
  if (asked == null) return null;
  return typeof asked === "string" ? { id: asked } : (asked as { id: string });
}

/** Of the event `error`: SDKs of one age read the fields here, those of another below `error`. */
export function toErrorFields(error: HubError): object {
  const { error: told } = toErrorBody(error);
  const { code, message, param } = told;
  return { code, message, param, error: told };
}

/** All keys that OpenAI sends, `null` where nothing is set: strict clients miss what is absent. */
export function toResponse(head: AnswerHead, model: string, state: ResponseState) {
  const request = head.request();
  const asked = <T>(name: string, otherwise: T) => request[name] ?? otherwise;
  const { status, output, usage, finish, error, completedAtMs } = state;
  const createdAt = Math.floor(head.createdAtMs / 1000);
  return {
    id: toResponseId(head),
    object: "response",
    created_at: createdAt,
    completed_at: completedAtMs === undefined ? null : Math.floor(completedAtMs / 1000),
    status,
    background: asked("background", false),
    error: error ? { code: toErrorCode(error), message: error.message } : null,
    frequency_penalty: asked("frequency_penalty", 0),
    incomplete_details: status === "incomplete" ? { reason: toIncomplete(finish) } : null,
    instructions: asked("instructions", null),
    max_output_tokens: asked("max_output_tokens", null),
    max_tool_calls: asked("max_tool_calls", null),
    model,
    output,
    parallel_tool_calls: asked("parallel_tool_calls", true),
    presence_penalty: asked("presence_penalty", 0),
    previous_response_id: asked("previous_response_id", null),
    conversation: toConversation(request.conversation),
    prompt_cache_key: asked("prompt_cache_key", null),
    reasoning: { effort: null, summary: null, ...(request.reasoning as object | null) },
    safety_identifier: asked("safety_identifier", null),
    service_tier: asked("service_tier", "default"),
    store: asked("store", true),
    temperature: asked("temperature", 1),
    text: { format: { type: "text" }, ...(request.text as object | null) },
    tool_choice: asked("tool_choice", "auto"),
    tools: (asked("tools", []) as { type?: string }[]).map(toTool),
    top_logprobs: asked("top_logprobs", 0),
    top_p: asked("top_p", 1),
    truncation: asked("truncation", "disabled"),
    usage: usage ? writeUsage(usage) : null,
    user: asked("user", null),
    metadata: asked("metadata", {}),
  };
}

/** Strict clients miss what is absent here too; upstreams of other dialects are not asked to be strict. */
function toTool(tool: { type?: string }): object {
  return tool.type === "function"
    ? { description: null, parameters: null, strict: false, ...tool }
    : tool;
}

/** OpenAI's counts are inclusive. */
function writeUsage(usage: UsageVector): object {
  const { input = 0, cache_read = 0, cache_write = 0, output = 0, reasoning = 0 } = usage;
  const inputTokens = input + cache_read + cache_write;
  const outputTokens = output + reasoning;
  return {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: cache_read, cache_write_tokens: cache_write },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: reasoning },
    total_tokens: inputTokens + outputTokens,
  };
}

function toIncomplete(finish: FinishReason | undefined): string {
  return finish === "length" ? "max_output_tokens" : "content_filter";
}

/** The enumeration of this field is shorter than that of errors. */
function toErrorCode({ code }: HubError): string {
  return code === "rate_limit_exceeded" ? code : "server_error";
}
