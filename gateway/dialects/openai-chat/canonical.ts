/** A chat completion's request in canonical form, for providers that speak otherwise. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  InputPart,
  OutputFormat,
  OutputPart,
  TextPart,
  Tool,
  ToolCallPart,
  ToolChoice,
  Turn,
} from "../../canonical/request.ts";
import { parseDataUrl } from "../data-url.ts";
import { readExtraContent } from "./extra-content.ts";
import { readDetails } from "./reasoning-details.ts";

/** @throws HubError naming the field that is wrong, or that has no place in any other dialect */
export function readCanonicalChat(body: Readonly<Record<string, unknown>>): CanonicalRequest {
  const request = parseOrThrow(chatBody, body);
  const { instructions, turns } = readMessages(request.messages);
  const outputTokensMax = request.max_completion_tokens ?? request.max_tokens;
  const { tools, toolChoice } = readTools(request);
  return {
    model: request.model,
    instructions,
    turns,
    tools,
    ...(toolChoice && { toolChoice }),
    ...present("parallelToolCalls", request.parallel_tool_calls),
    ...present("output", readOutputFormat(request.response_format)),
    ...present("outputTokensMax", outputTokensMax),
    choices: request.n ?? 1,
    ...present("temperature", request.temperature),
    ...present("topP", request.top_p),
    ...present("topK", request.top_k),
    ...present("minP", request.min_p),
    ...present("frequencyPenalty", request.frequency_penalty),
    ...present("presencePenalty", request.presence_penalty),
    ...present("logitBias", request.logit_bias),
    ...present("seed", request.seed),
    stop: [request.stop ?? []].flat(),
    ...(request.logprobs && { topLogprobs: request.top_logprobs ?? 0 }),
    ...(request.reasoning_effort && { reasoning: { effort: request.reasoning_effort } }),
    ...present("user", request.safety_identifier ?? request.user),
    ...present("metadata", request.metadata),
    stream: request.stream ?? false,
    rest: Object.fromEntries(
      Object.entries(body).filter(([name, value]) => !readFields.has(name) && value != null),
    ),
  };
}

type Message = z.infer<typeof message>;

/** Instructions at the head stand above the conversation; later ones have their place in it. */
function readMessages(messages: readonly Message[]): {
  instructions: TextPart[];
  turns: Turn[];
} {
  const instructions: TextPart[] = [];
  const turns: Turn[] = [];
  for (const [index, one] of messages.entries()) {
    const at = `messages[${index}]`;
    switch (one.role) {
      case "system":
      case "developer": {
        const parts = readTexts(one, at);
        if (turns.length === 0) for (const part of parts) instructions.push(part);
        else turns.push({ role: "system", parts });
        break;
      }
      case "user":
        turns.push({ role: "user", parts: readInput(one, at) });
        break;
      case "assistant":
        turns.push({ role: "assistant", parts: readOutput(one, at) });
        break;
      case "tool":
        turns.push({
          role: "tool",
          result: {
            callId: required(one.tool_call_id, `${at}.tool_call_id`),
            parts: readTexts(one, at),
          },
        });
        break;
      case "function":
        // The old form has no ids: a result answers the call before it.
        turns.push({
          role: "tool",
          result: {
            callId: functionCallId,
            ...present("name", one.name),
            parts: readTexts(one, at),
          },
        });
        break;
      default:
        one.role satisfies never;
    }
  }
  return { instructions, turns };
}

function readTexts({ content }: Message, at: string): TextPart[] {
  if (typeof content === "string") return [{ type: "text", text: content }];
  return (content ?? []).map((part, index) => {
    const text = textPart.safeParse(part);
    if (text.success) return toText(text.data);
    throw unsupportedPart(part, `${at}.content[${index}]`);
  });
}

function readInput({ content }: Message, at: string): InputPart[] {
  if (typeof content === "string") return [{ type: "text", text: content }];
  return (content ?? []).map((part, index) => {
    const where = `${at}.content[${index}]`;
    const known = inputPart.safeParse(part);
    if (!known.success) throw unsupportedPart(part, where);
    return toInputPart(known.data, where);
  });
}

function toInputPart(part: z.infer<typeof inputPart>, at: string): InputPart {
  switch (part.type) {
    case "text":
      return toText(part);
    case "image_url": {
      const { url, detail } = part.image_url;
      return { type: "image", source: toSource(url), ...present("detail", detail) };
    }
    case "input_audio":
      return { type: "audio", format: part.input_audio.format, base64: part.input_audio.data };
    case "file": {
      const { file_id, file_data, filename } = part.file;
      if (file_id != null) {
        return {
          type: "file",
          source: { type: "file_id", id: file_id },
          ...present("name", filename),
        };
      }
      const source = toSource(required(file_data, `${at}.file.file_data`));
      return { type: "file", source, ...present("name", filename) };
    }
    default:
      return part satisfies never;
  }
}

function toSource(url: string) {
  return parseDataUrl(url) ?? ({ type: "url", url } as const);
}

function readOutput(said: Message, at: string): OutputPart[] {
  if (said.audio != null) throw unsupported(`${at}.audio`);
  const parts: OutputPart[] = [];
  const details = readDetails(said.reasoning_details);
  const thought = said.reasoning_content ?? said.reasoning;
  if (details.length > 0) parts.push(...details);
  else if (thought) parts.push({ type: "reasoning", text: thought });
  if (typeof said.content === "string") {
    if (said.content !== "") parts.push({ type: "text", text: said.content });
  } else {
    for (const [index, part] of (said.content ?? []).entries()) {
      const known = outputPart.safeParse(part);
      if (!known.success) throw unsupportedPart(part, `${at}.content[${index}]`);
      const { data } = known;
      parts.push(data.type === "text" ? toText(data) : { type: "refusal", text: data.refusal });
    }
  }
  if (said.refusal) parts.push({ type: "refusal", text: said.refusal });
  for (const call of said.tool_calls ?? []) parts.push(toToolCall(call));
  if (said.function_call) {
    parts.push({ type: "tool_call", id: functionCallId, ...said.function_call });
  }
  return parts;
}

function toToolCall(call: z.infer<typeof toolCall>): ToolCallPart {
  return call.type === "custom"
    ? {
        type: "tool_call",
        id: call.id,
        name: call.custom.name,
        arguments: call.custom.input,
        custom: true,
      }
    : {
        type: "tool_call",
        id: call.id,
        ...call.function,
        ...readExtraContent(call.extra_content),
      };
}

function toText({ text }: { text: string }): TextPart {
  return { type: "text", text };
}

function readTools(request: z.infer<typeof chatBody>): {
  tools: Tool[];
  toolChoice: ToolChoice | undefined;
} {
  const functions: { type: string; [field: string]: unknown }[] = [
    ...(request.tools ?? []),
    ...(request.functions ?? []).map((one) => ({ type: "function", function: one })),
  ];
  const tools = functions.map((one, index): Tool => {
    if (one.type === "function") {
      const at = `tools[${index}].function.`;
      const { name, description, parameters, strict } = parseOrThrow(
        functionTool,
        one.function,
        at,
      );
      return {
        type: "function",
        name,
        ...present("description", description),
        ...present("parameters", parameters),
        ...present("strict", strict),
      };
    }
    if (one.type === "custom") {
      const { name, description, format } = parseOrThrow(
        customTool,
        one.custom,
        `tools[${index}].custom.`,
      );
      return {
        type: "custom",
        name,
        ...present("description", description),
        ...present("format", format),
      };
    }
    return { type: "native", dialect: "openai-chat", tool: one };
  });
  const choice = request.tool_choice ?? request.function_call;
  if (choice == null) return { tools, toolChoice: undefined };
  if (typeof choice === "string") return { tools, toolChoice: { type: choice } };
  if ("name" in choice) return { tools, toolChoice: { type: "tool", name: choice.name } };
  switch (choice.type) {
    case "function":
      return { tools, toolChoice: { type: "tool", name: choice.function.name } };
    case "custom":
      return { tools, toolChoice: { type: "tool", name: choice.custom.name } };
    case "allowed_tools": {
      const { mode, tools: allowed } = choice.allowed_tools;
      const names = new Set(allowed.map((one) => one.function?.name ?? one.custom?.name));
      const kept = tools.filter((tool) => "name" in tool && names.has(tool.name));
      return { tools: kept, toolChoice: { type: mode } };
    }
    default:
      return choice satisfies never;
  }
}

function readOutputFormat(
  format: z.infer<typeof responseFormat> | null | undefined,
): OutputFormat | undefined {
  if (!format || format.type === "text") return undefined;
  if (format.type === "json_object") {
    const { schema } = format;
    return schema ? { type: "json_schema", name: "answer", schema } : { type: "json" };
  }
  const { name, description, schema, strict } = format.json_schema;
  return {
    type: "json_schema",
    name,
    schema: schema ?? {},
    ...present("description", description),
    ...present("strict", strict),
  };
}

/** A field that is there only when it has a value. */
function present<K extends string, V>(name: K, value: V | null | undefined): { [key in K]?: V } {
  return (value == null ? {} : { [name]: value }) as { [key in K]?: V };
}

function required(value: string | null | undefined, param: string): string {
  if (value != null) return value;
  throw new HubError("missing_required_parameter", `Missing required parameter: '${param}'.`, {
    param,
  });
}

function unsupportedPart(part: unknown, at: string): HubError {
  const type = z.object({ type: z.string() }).safeParse(part).data?.type ?? "unknown";
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${at}' is a part of type '${type.slice(0, 100)}', or is not complete, and this model's provider takes none such.`,
    { param: at },
  );
}

function unsupported(param: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}' is not supported with this model.`,
    { param },
  );
}

/** Calls of the old form have no ids of their own. */
const functionCallId = "call_function";

const textPart = z.object({ type: z.literal("text"), text: z.string() });
const inputPart = z.discriminatedUnion("type", [
  textPart,
  z.object({
    type: z.literal("image_url"),
    image_url: z.object({ url: z.string(), detail: z.enum(["auto", "low", "high"]).nullish() }),
  }),
  z.object({
    type: z.literal("input_audio"),
    input_audio: z.object({ data: z.string(), format: z.string() }),
  }),
  z.object({
    type: z.literal("file"),
    file: z.object({
      file_id: z.string().nullish(),
      file_data: z.string().nullish(),
      filename: z.string().nullish(),
    }),
  }),
]);
const outputPart = z.discriminatedUnion("type", [
  textPart,
  z.object({ type: z.literal("refusal"), refusal: z.string() }),
]);
const functionCall = z.object({ name: z.string(), arguments: z.string() });
const toolCall = z.discriminatedUnion("type", [
  z.object({
    id: z.string(),
    type: z.literal("function"),
    function: functionCall,
    extra_content: z.unknown().optional(),
  }),
  z.object({
    id: z.string(),
    type: z.literal("custom"),
    custom: z.object({ name: z.string(), input: z.string() }),
  }),
]);

const message = z.object({
  role: z.enum(["developer", "system", "user", "assistant", "tool", "function"]),
  content: z.union([z.string(), z.array(z.unknown())]).nullish(),
  name: z.string().nullish(),
  refusal: z.string().nullish(),
  tool_calls: z.array(toolCall).nullish(),
  function_call: functionCall.nullish(),
  tool_call_id: z.string().nullish(),
  reasoning_content: z.string().nullish(),
  reasoning: z.string().nullish(),
  reasoning_details: z.unknown().optional(),
  audio: z.unknown().optional(),
});

const functionTool = z.object({
  name: z.string(),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});
const customTool = z.object({
  name: z.string(),
  description: z.string().nullish(),
  format: z.unknown().optional(),
});
const named = z.object({ name: z.string() });
const toolChoice = z.union([
  z.enum(["auto", "none", "required"]),
  z.discriminatedUnion("type", [
    z.object({ type: z.literal("function"), function: named }),
    z.object({ type: z.literal("custom"), custom: named }),
    z.object({
      type: z.literal("allowed_tools"),
      allowed_tools: z.object({
        mode: z.enum(["auto", "required"]),
        tools: z.array(z.object({ function: named.nullish(), custom: named.nullish() })),
      }),
    }),
  ]),
]);
const responseFormat = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text") }),
  z.object({
    type: z.literal("json_object"),
    /** Together's and Anyscale's way, which Instructor still goes. */
    schema: z.record(z.string(), z.unknown()).nullish(),
  }),
  z.object({
    type: z.literal("json_schema"),
    json_schema: z.object({
      name: z.string(),
      description: z.string().nullish(),
      schema: z.record(z.string(), z.unknown()).nullish(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

const number = z.number().nullish();
const chatBody = z.object({
  model: z.string(),
  messages: z.array(message).min(1),
  tools: z.array(z.looseObject({ type: z.string() })).nullish(),
  functions: z.array(z.unknown()).nullish(),
  tool_choice: toolChoice.nullish(),
  function_call: z.union([z.enum(["auto", "none"]), named]).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  response_format: responseFormat.nullish(),
  max_completion_tokens: number,
  max_tokens: number,
  n: number,
  temperature: number,
  top_p: number,
  top_k: number,
  min_p: number,
  frequency_penalty: number,
  presence_penalty: number,
  logit_bias: z.record(z.string(), z.number()).nullish(),
  seed: number,
  stop: z.union([z.string(), z.array(z.string())]).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: number,
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).nullish(),
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  stream: z.boolean().nullish(),
});
/** What is read here, or acted on by the gateway itself. */
const readFields: ReadonlySet<string> = new Set([
  ...Object.keys(chatBody.shape),
  "stream_options",
  "adapters",
]);
