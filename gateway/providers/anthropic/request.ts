/** The request as Anthropic gets it: the client's own or a translated one, with the upstream's model name. */
import { isForeignSeal } from "../../dialects/anthropic-messages/seal.ts";
import { writeJson } from "../../http/json-text.ts";
import type { Target } from "../../routing/resolve.ts";
import type { SpokenRequest } from "../format.ts";
import type { ProviderRequest } from "../provider.ts";

export type AnthropicRequestOptions = {
  apiKey: string | undefined;
  /** Where neither the request nor the model names a most, which Anthropic demands. */
  outputTokensDefault: number;
};

export function writeAnthropicRequest(
  call: SpokenRequest,
  { model }: Target,
  { apiKey, outputTokensDefault }: AnthropicRequestOptions,
): ProviderRequest {
  const { messages, dropped } = withoutForeignSeals(call.body.messages);
  const body: Record<string, unknown> = { ...call.body, model: model.upstreamModel, messages };
  body.max_tokens ??= model.maxOutputTokens ?? outputTokensDefault + budgetOf(body.thinking);
  return {
    path: "/messages",
    headers: {
      ...anthropicHeaders(call, apiKey),
      accept: call.stream ? "text/event-stream" : "application/json",
    },
    body: writeJson(body, call.source),
    dropped,
  };
}

/** What is thought counts as said. */
function budgetOf(thinking: unknown): number {
  const budget = (thinking as { budget_tokens?: unknown } | undefined)?.budget_tokens;
  return typeof budget === "number" ? budget : 0;
}

/** Asks how many tokens a prompt has; what is only about the answer is not taken there. */
export function writeCountRequest(
  call: SpokenRequest,
  { model }: Target,
  apiKey: string | undefined,
): ProviderRequest {
  const { messages, dropped } = withoutForeignSeals(call.body.messages);
  const prompt = Object.entries(call.body).filter(([name]) => countedFields.has(name));
  const body = { ...Object.fromEntries(prompt), model: model.upstreamModel, messages };
  return {
    path: "/messages/count_tokens",
    headers: { ...anthropicHeaders(call, apiKey), accept: "application/json" },
    body: writeJson(body, call.source),
    dropped,
  };
}

function anthropicHeaders(
  { headers }: SpokenRequest,
  apiKey: string | undefined,
): Record<string, string> {
  return {
    "content-type": "application/json",
    "anthropic-version": "2023-06-01",
    ...headers,
    ...(apiKey !== undefined && { "x-api-key": apiKey }),
  };
}

/**
 * Thoughts that another provider had earlier in the conversation: Anthropic refuses a request with a seal that it did
 * not make. Without one the messages go on as they are, and no others are made.
 */
function withoutForeignSeals(messages: unknown): { messages: unknown; dropped: string[] } {
  if (!Array.isArray(messages) || !messages.some((one) => contentOf(one)?.some(isForeign))) {
    return { messages, dropped: [] };
  }
  const kept = messages.flatMap((message: object) => {
    const content = contentOf(message);
    if (!content?.some(isForeign)) return [message];
    const rest = content.filter((block) => !isForeign(block));
    return rest.length > 0 ? [{ ...message, content: rest }] : [];
  });
  return { messages: kept, dropped: ["messages.thinking"] };
}

function contentOf(message: unknown): unknown[] | undefined {
  const content = (message as { content?: unknown } | null)?.content;
  return Array.isArray(content) ? content : undefined;
}

function isForeign(block: unknown): boolean {
  const { type, signature, data } = (block ?? {}) as Record<string, unknown>;
  if (type === "thinking") return isForeignSeal(signature);
  return type === "redacted_thinking" && isForeignSeal(data);
}

const countedFields: ReadonlySet<string> = new Set([
  "system",
  "tools",
  "tool_choice",
  "thinking",
  "output_config",
  "cache_control",
  "mcp_servers",
  "context_management",
]);
