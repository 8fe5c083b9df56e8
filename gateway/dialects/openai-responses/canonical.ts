/** A request to OpenAI's Responses API in canonical form. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  FilePart,
  ImagePart,
  InputPart,
  MediaSource,
  OutputFormat,
  OutputPart,
  TextPart,
  Tool,
  ToolChoice,
  Turn,
} from "../../canonical/request.ts";
import { parseDataUrl } from "../data-url.ts";
import { toCallId } from "./call-id.ts";
import {
  customTool,
  functionTool,
  inputItem,
  messageContent,
  responsesBody,
  toolChoice,
} from "./schema.ts";
import { fromCallSeal, fromEncryptedContent } from "./seal.ts";

/** Items before the request's own, and the field of the request that stands for them. */
export type ItemsBefore = { items: readonly unknown[]; param: string };

/** @throws HubError naming the field that is wrong, or that has no place in any other dialect */
export function readCanonicalResponses(
  body: Readonly<Record<string, unknown>>,
  before: ItemsBefore = { items: [], param: "" },
): CanonicalRequest {
  const request = parseOrThrow(responsesBody, body);
  const given =
    typeof request.input === "string"
      ? [{ type: "message", role: "user", content: request.input }]
      : (request.input ?? []);
  const conversation = readItems(given, before);
  const { tools, choice } = readTools(request);
  const { effort, summary } = request.reasoning ?? {};
  return {
    model: request.model,
    instructions: [
      ...(request.instructions ? [{ type: "text" as const, text: request.instructions }] : []),
      ...conversation.instructions,
    ],
    turns: conversation.turns,
    tools,
    ...(choice && { toolChoice: choice }),
    ...present("parallelToolCalls", request.parallel_tool_calls),
    ...present("output", readOutputFormat(request.text?.format)),
    ...present("outputTokensMax", request.max_output_tokens),
    choices: 1,
    ...present("temperature", request.temperature),
    ...present("topP", request.top_p),
    stop: [],
    ...(request.include?.includes("message.output_text.logprobs") && {
      topLogprobs: request.top_logprobs ?? 0,
    }),
    ...((effort || summary) && {
      reasoning: { ...present("effort", effort), ...(summary && { visible: true }) },
    }),
    ...present("user", request.safety_identifier ?? request.user),
    ...present("metadata", request.metadata),
    stream: request.stream ?? false,
    rest: {
      ...Object.fromEntries(
        Object.entries(body).filter(([name, value]) => !readFields.has(name) && value != null),
      ),
      ...present("verbosity", request.text?.verbosity),
    },
  };
}

type Item = z.infer<typeof inputItem>;

/** Of the items before, their places mean nothing to the client. */
function readItems(
  given: readonly unknown[],
  before: ItemsBefore,
): { instructions: TextPart[]; turns: Turn[] } {
  const instructions: TextPart[] = [];
  const turns: Turn[] = [];
  const called = new Set<string>();
  /** Of the call that comes next. */
  let nextSignature: string | undefined;
  for (const [index, value] of [...before.items, ...given].entries()) {
    const place = index - before.items.length;
    const at = place < 0 ? before.param : `input[${place}]`;
    const item = parseItem(value, at);
    const signature = nextSignature;
    nextSignature = undefined;
    switch (item.type) {
      case "message":
        readMessage(item, at, { instructions, turns });
        break;
      case "function_call":
      case "custom_tool_call": {
        const { name } = item;
        const id = toCallId(item.call_id);
        called.add(id);
        const custom = item.type === "custom_tool_call";
        const text = item.type === "custom_tool_call" ? item.input : item.arguments;
        const more = { ...(custom && { custom }), ...present("signature", signature) };
        say(turns, { type: "tool_call", id, name, arguments: text, ...more });
        break;
      }
      case "function_call_output":
      case "custom_tool_call_output": {
        const callId = toCallId(item.call_id);
        if (!called.has(callId)) throw notCalled(item.call_id);
        turns.push({ role: "tool", result: { callId, parts: readResult(item.output, at) } });
        break;
      }
      case "reasoning": {
        const text = [...(item.content ?? []), ...item.summary].map((part) => part.text).join("\n");
        nextSignature = fromCallSeal(item.encrypted_content);
        if (nextSignature !== undefined) {
          if (text !== "") say(turns, { type: "reasoning", text, ...present("id", item.id) });
          break;
        }
        say(turns, {
          type: "reasoning",
          text,
          ...(item.encrypted_content != null && fromEncryptedContent(item.encrypted_content)),
          ...present("id", item.id),
        });
        break;
      }
      default:
        item satisfies never;
    }
  }
  return { instructions, turns };
}

/** As OpenAI refuses it; others tell of it in words of their own, or guess. */
function notCalled(callId: string): HubError {
  return new HubError(
    "invalid_value",
    `No tool call found for function call output with call_id ${callId.slice(0, 100)}.`,
    { param: "input" },
  );
}

/** What an assistant says in several items is one turn. */
function say(turns: Turn[], part: OutputPart): void {
  const last = turns.at(-1);
  if (last?.role === "assistant") last.parts.push(part);
  else turns.push({ role: "assistant", parts: [part] });
}

function readMessage(
  { role, content }: Extract<Item, { type: "message" }>,
  at: string,
  { instructions, turns }: { instructions: TextPart[]; turns: Turn[] },
): void {
  const parts = (
    typeof content === "string" ? [{ type: "input_text", text: content }] : content
  ).map((part, index) => parsePart(part, `${at}.content[${index}]`));
  switch (role) {
    case "user":
      turns.push({
        role,
        parts: parts.flatMap((part, index) => toInput(part, `${at}.content[${index}]`)),
      });
      return;
    case "assistant":
      for (const part of parts) {
        if (part.type === "refusal") say(turns, { type: "refusal", text: part.refusal });
        else if ("text" in part) say(turns, { type: "text", text: part.text });
      }
      return;
    case "system":
    case "developer": {
      const texts = parts.flatMap((part): TextPart[] =>
        "text" in part ? [{ type: "text", text: part.text }] : [],
      );
      if (turns.length === 0) for (const text of texts) instructions.push(text);
      else turns.push({ role: "system", parts: texts });
      return;
    }
    default:
      role satisfies never;
  }
}

type Part = z.infer<typeof messageContent>;

function toInput(part: Part, at: string): InputPart[] {
  switch (part.type) {
    case "input_text":
    case "output_text":
      return [{ type: "text", text: part.text }];
    case "refusal":
      return [{ type: "text", text: part.refusal }];
    case "input_image":
      return [toImage(part, at)];
    case "input_file":
      return [toFile(part, at)];
    default:
      return part satisfies never;
  }
}

function toImage(part: Extract<Part, { type: "input_image" }>, at: string): ImagePart {
  const detail = part.detail === "original" ? "high" : part.detail;
  return {
    type: "image",
    source: toSource({ url: part.image_url, fileId: part.file_id }, `${at}.image_url`),
    ...present("detail", detail),
  };
}

function toFile(part: Extract<Part, { type: "input_file" }>, at: string): FilePart {
  const { file_data, file_url, file_id, filename } = part;
  const url = file_data ?? file_url;
  return {
    type: "file",
    source: toSource({ url, fileId: file_id }, `${at}.file_data`),
    ...present("name", filename),
  };
}

function toSource(
  { url, fileId }: { url: string | null | undefined; fileId: string | null | undefined },
  param: string,
): MediaSource {
  if (url != null) return parseDataUrl(url) ?? { type: "url", url };
  if (fileId != null) return { type: "file_id", id: fileId };
  throw new HubError("missing_required_parameter", `Missing required parameter: '${param}'.`, {
    param,
  });
}

function readResult(output: string | unknown[], at: string): (TextPart | ImagePart | FilePart)[] {
  if (typeof output === "string") return [{ type: "text", text: output }];
  return output.flatMap((value, index) => {
    const where = `${at}.output[${index}]`;
    return toInput(parsePart(value, where), where).filter((part) => part.type !== "audio");
  });
}

function readTools(request: z.infer<typeof responsesBody>): {
  tools: Tool[];
  choice: ToolChoice | undefined;
} {
  const tools = (request.tools ?? []).map((tool, index): Tool => {
    const at = `tools[${index}].`;
    if (tool.type === "function") {
      const { name, description, parameters, strict } = parseOrThrow(functionTool, tool, at);
      return {
        type: "function",
        name,
        ...present("description", description),
        ...present("parameters", parameters),
        ...present("strict", strict),
      };
    }
    if (tool.type === "custom") {
      const { name, description, format } = parseOrThrow(customTool, tool, at);
      return {
        type: "custom",
        name,
        ...present("description", description),
        ...present("format", format),
      };
    }
    return { type: "native", dialect: "openai-responses", tool };
  });
  const asked = request.tool_choice;
  if (asked == null) return { tools, choice: undefined };
  const known = toolChoice.safeParse(asked);
  if (!known.success) {
    const message =
      "Unsupported parameter: 'tool_choice' names a tool that this model's provider does not run.";
    throw new HubError("unsupported_parameter", message, { param: "tool_choice" });
  }
  const { data } = known;
  if (typeof data === "string") return { tools, choice: { type: data } };
  if (data.type !== "allowed_tools") return { tools, choice: { type: "tool", name: data.name } };
  const names = new Set(data.tools.map(({ name }) => name));
  const kept = tools.filter((tool) => "name" in tool && names.has(tool.name));
  return { tools: kept, choice: { type: data.mode } };
}

function readOutputFormat(
  format: NonNullable<z.infer<typeof responsesBody>["text"]>["format"],
): OutputFormat | undefined {
  if (!format || format.type === "text") return undefined;
  if (format.type === "json_object") return { type: "json" };
  const { name, description, schema, strict } = format;
  return {
    type: "json_schema",
    name,
    schema,
    ...present("description", description),
    ...present("strict", strict),
  };
}

/** Messages may come without a type. */
function parseItem(value: unknown, at: string): Item {
  const typed = z.looseObject({ type: z.string().optional() }).safeParse(value);
  const known = inputItem.safeParse({ type: "message", ...typed.data });
  if (typed.success && known.success) return known.data;
  const type = typed.data?.type ?? "message";
  if (itemTypes.has(type)) return parseOrThrow(inputItem, { type, ...typed.data }, `${at}.`);
  throw new HubError(
    "invalid_value",
    `Invalid value: '${type.slice(0, 100)}'. Items that this gateway passes on to other providers are ${[...itemTypes].join(", ")}.`,
    { param: at },
  );
}

function parsePart(value: unknown, at: string): Part {
  const known = messageContent.safeParse(value);
  if (known.success) return known.data;
  const type = z.object({ type: z.string() }).safeParse(value).data?.type ?? "unknown";
  throw new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${at}' is a part of type '${type.slice(0, 100)}', or is not complete, and this model's provider takes none such.`,
    { param: at },
  );
}

/** A field that is there only when it has a value. */
function present<K extends string, V>(name: K, value: V | null | undefined): { [key in K]?: V } {
  return (value == null ? {} : { [name]: value }) as { [key in K]?: V };
}

const itemTypes: ReadonlySet<string> = new Set(
  inputItem.options.map(({ shape }) => shape.type.value),
);
/** What is read here, acted on by the gateway itself, or without meaning to other providers. */
const readFields: ReadonlySet<string> = new Set([
  ...Object.keys(responsesBody.shape),
  "store",
  "conversation",
  "background",
  "stream_options",
  "adapters",
]);
