/** A canonical request as the body of one of Anthropic's messages. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  OutputFormat,
  TextPart,
  Tool,
  ToolChoice,
} from "../../canonical/request.ts";
import { narrowSchema } from "./narrow-schema.ts";
import { Notes } from "./notes.ts";
import { writeReasoning } from "./reasoning.ts";
import { writeTurns } from "./turns.ts";

/** @throws HubError `unsupported_parameter` for what would change the answer if it were left out */
export function writeMessagesBody(request: CanonicalRequest): {
  body: Record<string, unknown>;
  dropped: string[];
} {
  const notes = new Notes();
  refuseWhatItLacks(request);
  const { output, toolChoice, user } = request;
  const tools = request.tools.map((tool) => writeTool(tool, notes));
  const system = [...request.instructions, ...jsonInstruction(output, notes)];
  const reasoning = writeReasoning(request, notes);
  const { effort, thinking } = reasoning;
  const format = writeFormat(output, notes);
  const body: Record<string, unknown> = {
    model: request.model,
    max_tokens: request.outputTokensMax,
    ...(system.length > 0 && { system: writeSystem(system, notes) }),
    messages: writeTurns(request.turns, notes),
    ...(request.stream && { stream: true }),
    ...(tools.length > 0 && { tools }),
    // Without tools there is nothing to choose.
    ...(tools.length > 0 && {
      tool_choice: writeToolChoice(toolChoice, request.parallelToolCalls === false),
    }),
    thinking,
    ...((effort || format) && { output_config: { ...(effort && { effort }), ...format } }),
    ...writeSampling(request, thinking !== undefined && thinking.type !== "disabled", notes),
    ...writeStops(request.stop, notes),
    ...(user !== undefined && { metadata: { user_id: user } }),
  };
  for (const name of [
    "seed",
    "frequencyPenalty",
    "presencePenalty",
    "logitBias",
    "minP",
  ] as const) {
    if (request[name] !== undefined) notes.drop(name);
  }
  if (request.metadata) notes.drop("metadata");
  for (const [name, value] of Object.entries(request.rest)) {
    const tier = name === "service_tier" ? serviceTiers.get(String(value)) : undefined;
    if (tier) body.service_tier = tier;
    else notes.drop(name);
  }
  for (const [name, value] of Object.entries(body)) if (value === undefined) delete body[name];
  return { body, dropped: notes.dropped };
}

function refuseWhatItLacks({ choices, topLogprobs }: CanonicalRequest): void {
  if (choices > 1) {
    throw unsupported("n", "Several choices for one request are not supported with this model.");
  }
  if (topLogprobs !== undefined) {
    throw unsupported("logprobs", "Log-probabilities are not supported with this model.");
  }
}

/** There is no mode that only promises JSON, so the model is told; whether it obeys is its own affair. */
function jsonInstruction(output: OutputFormat | undefined, notes: Notes): TextPart[] {
  if (output?.type !== "json") return [];
  notes.drop("response_format");
  return [{ type: "text", text: "Answer with one JSON object and nothing else." }];
}

function writeFormat(output: OutputFormat | undefined, notes: Notes): object | undefined {
  if (output?.type !== "json_schema") return undefined;
  const { schema, left } = narrowSchema(output.schema);
  for (const keyword of left) notes.drop(`response_format.${keyword}`);
  return { format: { type: "json_schema", schema } };
}

function writeSystem(parts: readonly TextPart[], notes: Notes): object[] {
  return parts
    .filter(({ text }) => text.trim() !== "")
    .map((part) => ({ type: "text", text: part.text, ...notes.cacheControl(part) }));
}

function writeTool(tool: Tool, notes: Notes): object {
  switch (tool.type) {
    case "function": {
      const { name, description, parameters, strict } = tool;
      const shape = { type: "object", properties: {}, ...parameters };
      const narrowed = strict ? narrowSchema(shape) : undefined;
      for (const keyword of narrowed?.left ?? []) notes.drop(`tools.parameters.${keyword}`);
      return {
        name,
        ...(description !== undefined && { description }),
        input_schema: narrowed?.schema ?? { ...shape, type: "object" },
        ...(strict && { strict }),
        ...notes.cacheControl(tool),
      };
    }
    case "custom":
      throw unsupported(
        "tools",
        `The tool '${tool.name.slice(0, 100)}' takes free text, and this model's tools take JSON. Declare it as a function.`,
      );
    case "native": {
      if (tool.dialect === "anthropic-messages") return tool.tool;
      const type = String(tool.tool.type ?? Object.keys(tool.tool)[0]);
      throw unsupported(
        "tools",
        `The tool '${type.slice(0, 100)}' is run by another provider, and this model's has none such.`,
      );
    }
    default:
      return tool satisfies never;
  }
}

function writeToolChoice(choice: ToolChoice | undefined, serial: boolean): object | undefined {
  if (choice === undefined && !serial) return undefined;
  const one = serial ? { disable_parallel_tool_use: true } : {};
  switch (choice?.type) {
    case "none":
      return { type: "none" };
    case "required":
      return { type: "any", ...one };
    case "tool":
      return { type: "tool", name: choice.name, ...one };
    case "auto":
    case undefined:
      return { type: "auto", ...one };
    default:
      return choice satisfies never;
  }
}

/** Temperatures end at 1. While it thinks, a model takes none, and newer ones take one of two in any case. */
function writeSampling(
  { temperature, topP, topK }: CanonicalRequest,
  thinks: boolean,
  notes: Notes,
): Record<string, number> {
  const sampling: Record<string, number> = {};
  if (temperature !== undefined) {
    if (thinks || temperature > 1) notes.drop("temperature");
    if (!thinks) sampling.temperature = Math.min(temperature, 1);
  }
  if (topP !== undefined) {
    if (temperature === undefined && (!thinks || topP >= thinkingTopPMin)) sampling.top_p = topP;
    else notes.drop("topP");
  }
  if (topK !== undefined) {
    if (thinks) notes.drop("topK");
    else sampling.top_k = topK;
  }
  return sampling;
}

/** Blank ones are refused there. */
function writeStops(stop: readonly string[], notes: Notes): { stop_sequences?: string[] } {
  const visible = stop.filter((text) => text.trim() !== "");
  if (visible.length < stop.length) notes.drop("stop");
  return visible.length > 0 ? { stop_sequences: visible } : {};
}

function unsupported(param: string, message: string): HubError {
  return new HubError("unsupported_parameter", message, { param });
}

const thinkingTopPMin = 0.95;
/** By OpenAI's names. */
const serviceTiers: ReadonlyMap<string, string> = new Map([
  ["auto", "auto"],
  ["default", "standard_only"],
]);
