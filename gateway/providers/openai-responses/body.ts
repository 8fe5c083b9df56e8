/** A canonical request as a body of OpenAI's Responses API. */
import { createHash } from "node:crypto";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  FilePart,
  ImagePart,
  InputPart,
  OutputFormat,
  OutputPart,
  TextPart,
  Tool,
  ToolChoice,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import { openSeal } from "../../canonical/seal.ts";
import { toDataUrl } from "../../dialects/data-url.ts";

/** @throws HubError `unsupported_parameter` for what would change the answer if it were left out */
export function writeResponsesBody(request: CanonicalRequest): {
  body: Record<string, unknown>;
  dropped: string[];
} {
  refuse(request);
  const dropped = new Set<string>();
  const { instructions, output, toolChoice, topLogprobs, reasoning, outputTokensMax } = request;
  for (const field of lacking) if (request[field] !== undefined) dropped.add(field);
  const raised = outputTokensMax !== undefined && outputTokensMax < outputTokensMin;
  if (raised) dropped.add("outputTokensMax");
  const custom = customCalls(request.turns);
  const tools = request.tools.map((tool) => writeTool(tool, dropped));
  const hasTools = tools.length > 0;
  const verbosity = request.rest.verbosity;
  const include = [
    "reasoning.encrypted_content",
    ...(topLogprobs === undefined ? [] : ["message.output_text.logprobs"]),
  ];
  const body: Record<string, unknown> = {
    model: request.model,
    instructions: instructions.length > 0 ? joined(instructions, dropped) : undefined,
    input: request.turns.flatMap((turn) => writeTurn(turn, { dropped, custom })),
    ...(hasTools && {
      tools,
      tool_choice: toolChoice && writeToolChoice(toolChoice, request.tools),
    }),
    ...(hasTools && { parallel_tool_calls: request.parallelToolCalls }),
    ...((output || verbosity !== undefined) && {
      text: { ...(output && { format: writeFormat(output) }), verbosity },
    }),
    max_output_tokens: raised ? outputTokensMin : outputTokensMax,
    temperature: request.temperature,
    top_p: request.topP,
    top_logprobs: topLogprobs,
    ...(reasoning && {
      reasoning: { effort: reasoning.effort, summary: reasoning.visible ? "auto" : undefined },
    }),
    include,
    // What is to be remembered, the gateway remembers.
    store: false,
    safety_identifier: request.user,
    ...(request.stream && { stream: true }),
  };
  for (const [name, value] of Object.entries(request.rest)) {
    if (name === "verbosity") continue;
    if (sharedFields.has(name)) body[name] = value;
    else dropped.add(name);
  }
  for (const [name, value] of Object.entries(body)) if (value === undefined) delete body[name];
  return { body, dropped: [...dropped] };
}

/** A result is called after the kind of its call. */
function customCalls(turns: readonly Turn[]): ReadonlySet<string> {
  const said = turns.flatMap((turn) => (turn.role === "assistant" ? turn.parts : []));
  return new Set(
    said.flatMap((part) => (part.type === "tool_call" && part.custom ? [part.id] : [])),
  );
}

function writeTurn(
  turn: Turn,
  { dropped, custom }: { dropped: Set<string>; custom: ReadonlySet<string> },
): object[] {
  switch (turn.role) {
    case "system":
      return [{ role: "system", content: joined(turn.parts, dropped) }];
    case "user":
      return [{ role: "user", content: turn.parts.map((part) => writeInput(part, dropped)) }];
    case "assistant":
      return turn.parts.flatMap((part) => writeOutput(part, dropped));
    case "tool":
      return [
        {
          type: custom.has(turn.result.callId) ? "custom_tool_call_output" : "function_call_output",
          call_id: toCallId(turn.result.callId),
          output: writeResult(turn.result, dropped),
        },
      ];
    default:
      return turn satisfies never;
  }
}

/** It keeps prompts by itself, so marks of what is worth keeping have no place. */
function writeInput(part: InputPart, dropped: Set<string>): object {
  if ("cache" in part && part.cache) dropped.add("cache_control");
  switch (part.type) {
    case "text":
      return { type: "input_text", text: part.text };
    case "image":
      return { type: "input_image", detail: part.detail ?? "auto", ...writeImage(part) };
    case "file":
      return { type: "input_file", ...writeFile(part) };
    case "audio":
      throw unsupported("messages", "Audio is not supported with this model.");
    default:
      return part satisfies never;
  }
}

function writeImage({ source }: ImagePart): object {
  switch (source.type) {
    case "url":
      return { image_url: source.url };
    case "base64":
      return { image_url: toDataUrl(source) };
    case "file_id":
      return { file_id: source.id };
    default:
      return source satisfies never;
  }
}

function writeFile({ source, name }: FilePart): object {
  switch (source.type) {
    case "url":
      return { file_url: source.url };
    case "base64":
      return { filename: name ?? "file", file_data: toDataUrl(source) };
    case "file_id":
      return { file_id: source.id };
    default:
      return source satisfies never;
  }
}

function writeOutput(part: OutputPart, dropped: Set<string>): object[] {
  switch (part.type) {
    case "text":
      return [said({ type: "output_text", text: part.text })];
    case "refusal":
      return [said({ type: "refusal", refusal: part.text })];
    case "reasoning": {
      // Only thoughts that OpenAI encrypted itself are taken back.
      const encrypted_content = openSeal("openai", part.encrypted);
      if (encrypted_content === undefined) {
        dropped.add("messages.reasoning");
        return [];
      }
      const summary = part.text === "" ? [] : [{ type: "summary_text", text: part.text }];
      return [{ type: "reasoning", summary, encrypted_content }];
    }
    case "tool_call": {
      const call = { call_id: toCallId(part.id), name: part.name };
      return part.custom
        ? [{ type: "custom_tool_call", ...call, input: part.arguments }]
        : [{ type: "function_call", ...call, arguments: part.arguments }];
    }
    default:
      return part satisfies never;
  }
}

function said(content: object): object {
  return { type: "message", role: "assistant", content: [content] };
}

function writeResult(
  { parts, isError, cache }: ToolResult,
  dropped: Set<string>,
): string | object[] {
  if (cache) dropped.add("cache_control");
  const texts = parts.filter((part) => part.type === "text");
  if (texts.length < parts.length) return parts.map((part) => writeInput(part, dropped));
  const text = joined(texts, dropped);
  return isError ? `Error: ${text}` : text;
}

function writeTool(tool: Tool, dropped: Set<string>): object {
  switch (tool.type) {
    case "function": {
      if (tool.cache) dropped.add("cache_control");
      const { name, description, parameters, strict = false } = tool;
      const schema = parameters ?? { type: "object", properties: {} };
      // Here what says nothing is strict; in all other dialects it is not.
      return { type: "function", name, description, parameters: schema, strict };
    }
    case "custom": {
      const { name, description, format } = tool;
      return { type: "custom", name, description, format };
    }
    case "native":
      throw unsupported(
        "tools",
        "A tool that another provider runs is not supported with this model.",
      );
    default:
      return tool satisfies never;
  }
}

function writeToolChoice(choice: ToolChoice, tools: readonly Tool[]): unknown {
  if (choice.type !== "tool") return choice.type;
  const { name } = choice;
  const isCustom = tools.some((tool) => tool.type === "custom" && tool.name === name);
  return { type: isCustom ? "custom" : "function", name };
}

function writeFormat(output: OutputFormat): object {
  if (output.type === "json") return { type: "json_object" };
  const { name, description, schema, strict = false } = output;
  return { type: "json_schema", name, description, schema, strict };
}

/** Longer ids, which other providers give, are refused. */
function toCallId(id: string): string {
  if (id.length <= callIdCharsMax) return id;
  return `call_${createHash("sha256").update(id).digest("hex").slice(0, 40)}`;
}

function joined(parts: readonly TextPart[], dropped: Set<string>): string {
  if (parts.some(({ cache }) => cache)) dropped.add("cache_control");
  return parts.map(({ text }) => text).join("\n\n");
}

function refuse({ choices, stop, logitBias }: CanonicalRequest): void {
  const asked = { n: choices > 1, stop: stop.length > 0, logit_bias: logitBias !== undefined };
  for (const [param, isAsked] of Object.entries(asked)) {
    if (isAsked) {
      throw unsupported(
        param,
        `Unsupported parameter: '${param}' is not supported by this model's provider.`,
      );
    }
  }
}

function unsupported(param: string, message: string): HubError {
  return new HubError("unsupported_parameter", message, { param });
}

/** Left out and told: they nudge an answer, and do not make it another one. */
const lacking = ["seed", "frequencyPenalty", "presencePenalty", "topK", "minP"] as const;
const outputTokensMin = 16;
const callIdCharsMax = 64;
/** Fields of other dialects that mean the same here. */
const sharedFields: ReadonlySet<string> = new Set([
  "service_tier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "truncation",
]);
