/** A request of Anthropic's messages in canonical form, for providers that speak otherwise. */
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  OutputFormat,
  Reasoning,
  Tool,
  ToolChoice,
  Turn,
} from "../../canonical/request.ts";
import { type Lost, readAssistant, readTexts, readUser, withCache } from "./content.ts";
import { functionTool, type MessagesBody, messagesBody } from "./schema.ts";

/** @throws HubError naming the field that is wrong, or that has no place in any other dialect */
export function readCanonicalMessages(body: Readonly<Record<string, unknown>>): CanonicalRequest {
  const request = parseOrThrow(messagesBody, body);
  refuseAnthropicsOwn(request);
  const lost: Lost = new Set();
  const turns = readTurns(request, lost);
  const tools = (request.tools ?? []).map((tool, index) => readTool(tool, index, lost));
  const { tool_choice: choice } = request;
  const serial =
    choice && "disable_parallel_tool_use" in choice && choice.disable_parallel_tool_use;
  const output = readOutputFormat(request);
  const reasoning = readReasoning(request);
  return {
    model: request.model,
    instructions: request.system ? readTexts(request.system, "system") : [],
    turns,
    tools,
    ...(choice && { toolChoice: toToolChoice(choice) }),
    ...(serial && { parallelToolCalls: false }),
    ...(output && { output }),
    ...(request.max_tokens != null && { outputTokensMax: request.max_tokens }),
    choices: 1,
    ...(request.temperature != null && { temperature: request.temperature }),
    ...(request.top_p != null && { topP: request.top_p }),
    ...(request.top_k != null && { topK: request.top_k }),
    stop: request.stop_sequences ?? [],
    ...(reasoning && { reasoning }),
    ...(request.metadata?.user_id && { user: request.metadata.user_id }),
    stream: request.stream ?? false,
    rest: readRest(body, request, lost),
  };
}

/** Results come first: they answer the calls of the turn before. */
function readTurns({ messages }: MessagesBody, lost: Lost): Turn[] {
  return messages.flatMap(({ role, content }, index): Turn[] => {
    const at = `messages[${index}].content`;
    switch (role) {
      case "system":
        return [{ role, parts: readTexts(content, at) }];
      case "assistant":
        return [{ role, parts: readAssistant(content, at) }];
      case "user": {
        const { results, parts } = readUser(content, at, lost);
        const answered = results.map((result) => ({ role: "tool", result }) as const);
        return parts.length > 0 ? [...answered, { role, parts }] : answered;
      }
      default:
        return role satisfies never;
    }
  });
}

/** Tools without a schema are Anthropic's own, told apart by their type. */
function readTool(
  tool: { type?: string | null | undefined; [field: string]: unknown },
  index: number,
  lost: Lost,
): Tool {
  if (tool.type != null && tool.type !== "custom") {
    return { type: "native", dialect: "anthropic-messages", tool };
  }
  const {
    name,
    description,
    input_schema,
    strict,
    cache_control,
    type: _,
    ...rest
  } = parseOrThrow(functionTool, tool, `tools[${index}].`);
  for (const [field, value] of Object.entries(rest)) if (value != null) lost.add(`tools.${field}`);
  return {
    type: "function",
    name,
    ...(description != null && { description }),
    parameters: input_schema,
    ...(strict != null && { strict }),
    ...withCache({ cache_control }),
  };
}

function toToolChoice(choice: NonNullable<MessagesBody["tool_choice"]>): ToolChoice {
  switch (choice.type) {
    case "any":
      return { type: "required" };
    case "tool":
      return { type: "tool", name: choice.name };
    case "auto":
    case "none":
      return { type: choice.type };
    default:
      return choice satisfies never;
  }
}

function readOutputFormat({
  output_config,
  output_format,
}: MessagesBody): OutputFormat | undefined {
  const format = output_config?.format ?? output_format;
  // Anthropic gives it no name; others want one.
  return format ? { type: "json_schema", name: "output", schema: format.schema } : undefined;
}

function readReasoning({ thinking, output_config }: MessagesBody): Reasoning | undefined {
  const effort = output_config?.effort ?? undefined;
  if (thinking?.type === "disabled") return { effort: "none" };
  if (!thinking && !effort) return undefined;
  const shown = thinking && "display" in thinking ? thinking.display : undefined;
  return {
    ...(effort && { effort }),
    ...(thinking?.type === "enabled" && { tokensMax: thinking.budget_tokens }),
    ...(shown && { visible: shown === "summarized" }),
  };
}

/** What Anthropic itself would do for the request. @throws HubError `unsupported_parameter` */
function refuseAnthropicsOwn({ mcp_servers, container }: MessagesBody): void {
  const param = mcp_servers?.length ? "mcp_servers" : container == null ? undefined : "container";
  if (param === undefined) return;
  throw new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}' is served by Anthropic itself, and this model is not.`,
    { param },
  );
}

function readRest(
  body: Readonly<Record<string, unknown>>,
  { service_tier }: MessagesBody,
  lost: Lost,
): Record<string, unknown> {
  const unknown = Object.entries(body).filter(
    ([name, value]) => !readFields.has(name) && value != null,
  );
  return Object.fromEntries([
    ...unknown,
    ...[...lost].map((name) => [name, true]),
    // Of the two that there are, others call the second "default".
    ...(service_tier != null
      ? [["service_tier", service_tier === "standard_only" ? "default" : service_tier]]
      : []),
  ]);
}

/** What is read here, or acted on by the gateway itself. */
const readFields: ReadonlySet<string> = new Set([...Object.keys(messagesBody.shape), "adapters"]);
