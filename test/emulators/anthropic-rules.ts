/** What Anthropic refuses, in its words: the guard that finds bodies which were not, or wrongly, translated. */
import type { EmulatedBlock, MessagesRequest } from "./anthropic.ts";

/** The first thing that is wrong with a request. */
export function findFault(
  request: MessagesRequest,
  { counts, version }: { counts: boolean; version: string },
): string | undefined {
  const known = counts ? countFields : messageFields;
  const unknown = Object.keys(request).find((name) => !known.has(name));
  if (unknown) return `${unknown}: Extra inputs are not permitted`;
  if (version === "2026-10-21") {
    const removed = ["temperature", "top_p", "top_k"].find((name) => name in request);
    if (removed) return `${removed}: Extra inputs are not permitted`;
  }
  const { max_tokens, temperature, top_p, thinking, messages } = request;
  if (!counts && typeof max_tokens !== "number") return "max_tokens: Field required";
  if (typeof temperature === "number" && (temperature < 0 || temperature > 1)) {
    return "temperature: range: 0..1";
  }
  if (temperature !== undefined && top_p !== undefined) {
    return "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
  }
  const thinks = (thinking as { type?: string } | undefined)?.type;
  if (thinks === "enabled") {
    const budget = (thinking as { budget_tokens?: number }).budget_tokens ?? 0;
    if (budget < 1024)
      return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024";
    if (budget >= Number(max_tokens))
      return "`max_tokens` must be greater than `thinking.budget_tokens`";
  }
  if ((thinks === "enabled" || thinks === "adaptive") && temperature !== undefined) {
    return "`temperature` may only be set to 1 when thinking is enabled.";
  }
  if (thinks === "enabled" && isMidLoop(messages)) {
    return "messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final `assistant` message must start with a thinking block";
  }
  return toolFault(request) ?? stopFault(request) ?? messagesFault(messages);
}

function isMidLoop(messages: MessagesRequest["messages"]): boolean {
  const last = messages.findLast(({ role }) => role === "assistant")?.content;
  if (!Array.isArray(last) || !last.some(({ type }) => type === "tool_use")) return false;
  return !String(last[0]?.type).endsWith("thinking");
}

function toolFault({ tools, tool_choice, thinking }: MessagesRequest): string | undefined {
  for (const [index, tool] of ((tools ?? []) as EmulatedBlock[]).entries()) {
    const isOwn = tool.type != null && tool.type !== "custom";
    const schema = tool.input_schema as { type?: string } | undefined;
    if (!isOwn && schema?.type !== "object") {
      return `tools.${index}.custom.input_schema.type: Field required`;
    }
    if (!/^[a-zA-Z0-9_-]{1,128}$/.test(String(tool.name)))
      return `tools.${index}.custom.name: wrong`;
  }
  const choice = (tool_choice as { type?: string } | undefined)?.type;
  if (choice !== undefined && !["auto", "any", "tool", "none"].includes(choice)) {
    return `tool_choice: Input tag '${choice}' found using 'type' does not match any of the expected tags`;
  }
  const forced = choice === "any" || choice === "tool";
  const thinks = (thinking as { type?: string } | undefined)?.type ?? "disabled";
  return forced && thinks !== "disabled"
    ? "Thinking may not be enabled when tool_choice forces tool use."
    : undefined;
}

function stopFault({ stop_sequences }: MessagesRequest): string | undefined {
  const blank = ((stop_sequences ?? []) as string[]).some((text) => text.trim() === "");
  return blank ? "stop_sequences: each stop sequence must contain non-whitespace" : undefined;
}

function messagesFault(messages: MessagesRequest["messages"]): string | undefined {
  if (!Array.isArray(messages) || messages.length === 0) {
    return "messages: at least one message is required";
  }
  if (messages[0]?.role !== "user") return 'messages: first message must use the "user" role';
  const ids = new Set<string>();
  let open: string[] = [];
  for (const [index, { role, content }] of messages.entries()) {
    if (role !== "user" && role !== "assistant") {
      return `messages.${index}.role: Input should be 'user' or 'assistant'`;
    }
    const blocks = typeof content === "string" ? [{ type: "text", text: content }] : content;
    if (blocks.length === 0) return `messages.${index}: all messages must have non-empty content`;
    const results = blocks.filter(({ type }) => type === "tool_result");
    if (results.some((block, at) => blocks[at] !== block)) {
      return `messages.${index}: tool_result blocks must come first`;
    }
    const answered = results.map((block) => String(block.tool_use_id));
    const missing = open.find((id) => !answered.includes(id));
    if (missing) {
      return `messages.${index}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${missing}.`;
    }
    const stray = answered.find((id) => !open.includes(id));
    if (stray)
      return `messages.${index}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${stray}.`;
    for (const [at, block] of blocks.entries()) {
      const fault = blockFault(block, role, ids);
      if (fault) return `messages.${index}.content.${at}: ${fault}`;
    }
    open = blocks.filter(({ type }) => type === "tool_use").map(({ id }) => String(id));
  }
  const last = messages.at(-1);
  const text =
    last?.role === "assistant" && typeof last.content !== "string" && last.content.at(-1)?.text;
  return typeof text === "string" && text !== text.trimEnd()
    ? "messages: final assistant content cannot end with trailing whitespace"
    : undefined;
}

function blockFault(block: EmulatedBlock, role: string, ids: Set<string>): string | undefined {
  const allowed = role === "user" ? userBlocks : assistantBlocks;
  const fields = allowed[block.type];
  if (!fields)
    return `Input tag '${block.type}' found using 'type' does not match any of the expected tags`;
  const unknown = Object.keys(block).find(
    (name) => name !== "type" && name !== "cache_control" && !fields.includes(name),
  );
  if (unknown) return `${block.type}.${unknown}: Extra inputs are not permitted`;
  switch (block.type) {
    case "text":
      return String(block.text).trim() === "" ? "text content blocks must be non-empty" : undefined;
    case "thinking":
      return /^[A-Za-z0-9+/=_-]+$/.test(String(block.signature))
        ? undefined
        : "Invalid `signature` in `thinking` block";
    case "tool_use": {
      const { id, input } = block;
      if (!/^[a-zA-Z0-9_-]+$/.test(String(id))) return "tool_use.id: String should match pattern";
      if (ids.has(String(id))) return "`tool_use` ids must be unique";
      ids.add(String(id));
      return typeof input === "object"
        ? undefined
        : "tool_use.input: Input should be a valid dictionary";
    }
    default:
      return undefined;
  }
}

const countFields: ReadonlySet<string> = new Set([
  "model",
  "messages",
  "system",
  "tools",
  "tool_choice",
  "thinking",
  "output_config",
  "cache_control",
]);
const messageFields: ReadonlySet<string> = new Set([
  ...countFields,
  "max_tokens",
  "stream",
  "temperature",
  "top_p",
  "top_k",
  "stop_sequences",
  "metadata",
  "service_tier",
  "container",
  "context_management",
]);
const shared = { text: ["text", "citations"] };
const userBlocks: Readonly<Record<string, readonly string[]>> = {
  ...shared,
  image: ["source"],
  document: ["source", "title", "context", "citations"],
  search_result: ["source", "title", "content", "citations"],
  tool_result: ["tool_use_id", "content", "is_error"],
};
const assistantBlocks: Readonly<Record<string, readonly string[]>> = {
  ...shared,
  thinking: ["thinking", "signature"],
  redacted_thinking: ["data"],
  tool_use: ["id", "name", "input", "caller"],
};
