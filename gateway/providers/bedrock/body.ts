/** A canonical request as the body of Bedrock's Converse. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  OutputFormat,
  TextPart,
  Tool,
  ToolChoice,
} from "../../canonical/request.ts";
import { narrowSchema } from "../anthropic/narrow-schema.ts";
import { Notes } from "../anthropic/notes.ts";
import { writeReasoning } from "../anthropic/reasoning.ts";
import { type Block, cachePoint, type Message, writeTurns } from "./turns.ts";

/**
 * What the models behind it have beyond their common fields goes into `additionalModelRequestFields`, by the model's name.
 * @throws HubError `unsupported_parameter` for what would change the answer if it were left out
 */
export function writeConverseBody(request: CanonicalRequest): {
  body: Record<string, unknown>;
  dropped: string[];
} {
  refuseWhatItLacks(request);
  const dropped = new Set<string>();
  const { output, stop, metadata } = request;
  const messages = writeTurns(request.turns, dropped);
  const system = [...request.instructions, ...jsonInstruction(output, dropped)];
  const { more, effort, thinks } = writeMore(request, dropped);
  const textFormat = writeFormat(output, dropped);
  const visibleStops = stop.filter((text) => text.trim() !== "");
  if (visibleStops.length < stop.length) dropped.add("stop");
  const body = present({
    messages,
    system: system.length > 0 ? writeSystem(system) : undefined,
    inferenceConfig: nonEmpty({
      maxTokens: request.outputTokensMax,
      ...writeSampling(request, thinks, dropped),
      stopSequences: visibleStops.length > 0 ? visibleStops : undefined,
    }),
    toolConfig: writeToolConfig(request, messages, dropped),
    additionalModelRequestFields: nonEmpty(more),
    outputConfig: nonEmpty({ textFormat, effort }),
    requestMetadata: metadata,
  });
  for (const name of placeless) if (request[name] !== undefined) dropped.add(name);
  for (const [name, value] of Object.entries(request.rest)) {
    const tier = name === "service_tier" ? serviceTiers.get(String(value)) : undefined;
    if (tier) body.serviceTier = { type: tier };
    else dropped.add(name);
  }
  return { body, dropped: [...dropped] };
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
function jsonInstruction(output: OutputFormat | undefined, dropped: Set<string>): TextPart[] {
  if (output?.type !== "json") return [];
  dropped.add("response_format");
  return [{ type: "text", text: "Answer with one JSON object and nothing else." }];
}

function writeSystem(parts: readonly TextPart[]): Block[] {
  return parts
    .filter(({ text }) => text.trim() !== "")
    .flatMap((part) => [{ text: part.text }, ...cachePoint(part)]);
}

type More = { more: Record<string, unknown>; effort: string | undefined; thinks: boolean };

/** Claude's thinking and top-k, and the efforts of OpenAI's open models. */
function writeMore(request: CanonicalRequest, dropped: Set<string>): More {
  const { model, reasoning, topK } = request;
  if (/\bclaude\b/.test(model)) {
    const notes = new Notes();
    const { thinking, effort } = writeReasoning(request, notes, "bedrock");
    for (const name of notes.dropped) dropped.add(name);
    const thinks = thinking !== undefined && thinking.type !== "disabled";
    if (thinks && topK !== undefined) dropped.add("topK");
    return { more: { thinking, top_k: thinks ? undefined : topK }, effort, thinks };
  }
  if (topK !== undefined) dropped.add("topK");
  const reasons = /\bgpt-oss\b/.test(model) && reasoning?.effort !== undefined;
  if (reasoning && !reasons) dropped.add("reasoning");
  const more = reasons ? { reasoning_effort: reasoning?.effort } : {};
  return { more, effort: undefined, thinks: false };
}

/** Claude's temperatures end at 1, and while it thinks, it takes none. */
function writeSampling(
  { model, temperature, topP }: CanonicalRequest,
  thinks: boolean,
  dropped: Set<string>,
): Record<string, number | undefined> {
  if (thinks) {
    if (temperature !== undefined) dropped.add("temperature");
    if (topP !== undefined) dropped.add("topP");
    return {};
  }
  if (!/\bclaude\b/.test(model)) return { temperature, topP };
  if (temperature !== undefined && temperature > 1) dropped.add("temperature");
  // Newer ones take one of the two.
  if (temperature === undefined) return { topP };
  if (topP !== undefined) dropped.add("topP");
  return { temperature: Math.min(temperature, 1) };
}

function writeFormat(output: OutputFormat | undefined, dropped: Set<string>): object | undefined {
  if (output?.type !== "json_schema") return undefined;
  const { name, description, schema } = output;
  const narrowed = narrowSchema(schema);
  for (const keyword of narrowed.left) dropped.add(`response_format.${keyword}`);
  // The schema is a text there.
  const jsonSchema = present({ name, description, schema: JSON.stringify(narrowed.schema) });
  return { type: "json_schema", structure: { jsonSchema } };
}

/** Where calls stand in the conversation their tools have to be declared, even when none may be called any more. */
function writeToolConfig(
  { tools, toolChoice }: CanonicalRequest,
  messages: readonly Message[],
  dropped: Set<string>,
): object | undefined {
  const called = messages.flatMap(({ content }) =>
    content.flatMap((block) =>
      "toolUse" in block ? [(block.toolUse as { name: string }).name] : [],
    ),
  );
  if (toolChoice?.type === "none" && called.length === 0) return undefined;
  const declared = tools.flatMap((tool) => writeTool(tool, dropped));
  const known = new Set(tools.map((tool) => ("name" in tool ? tool.name : "")));
  const missing = [...new Set(called)].filter((name) => !known.has(name));
  const all = [...declared, ...(tools.length === 0 ? missing.map(bareTool) : [])];
  if (all.length === 0) return undefined;
  // There is no way to say that none is to be called.
  if (toolChoice?.type === "none") dropped.add("toolChoice");
  return present({ tools: all, toolChoice: toolChoice && writeToolChoice(toolChoice) });
}

function writeTool(tool: Tool, dropped: Set<string>): Block[] {
  switch (tool.type) {
    case "function": {
      const { name, description, parameters, strict } = tool;
      const shape = { type: "object", properties: {}, ...parameters };
      const narrowed = strict ? narrowSchema(shape) : undefined;
      for (const keyword of narrowed?.left ?? []) dropped.add(`tools.parameters.${keyword}`);
      const json = narrowed?.schema ?? { ...shape, type: "object" };
      const toolSpec = present({ name, description, inputSchema: { json }, strict });
      return [{ toolSpec }, ...cachePoint(tool)];
    }
    case "custom":
      throw unsupported(
        "tools",
        `The tool '${tool.name.slice(0, 100)}' takes free text, and this model's tools take JSON. Declare it as a function.`,
      );
    case "native": {
      const type = tool.tool.type ?? Object.keys(tool.tool)[0];
      throw unsupported(
        "tools",
        `The tool '${String(type).slice(0, 100)}' is run by another provider, and this model's has none such.`,
      );
    }
    default:
      return tool satisfies never;
  }
}

function bareTool(name: string): Block {
  return { toolSpec: { name, inputSchema: { json: { type: "object" } } } };
}

function writeToolChoice(choice: ToolChoice): object | undefined {
  switch (choice.type) {
    case "auto":
      return { auto: {} };
    case "none":
      return undefined;
    case "required":
      return { any: {} };
    case "tool":
      return { tool: { name: choice.name } };
    default:
      return choice satisfies never;
  }
}

function present(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function nonEmpty(fields: Record<string, unknown>): Record<string, unknown> | undefined {
  const there = present(fields);
  return Object.keys(there).length > 0 ? there : undefined;
}

function unsupported(param: string, message: string): HubError {
  return new HubError("unsupported_parameter", message, { param });
}

/** Fields that Converse has nothing for, and that an answer can do without. */
const placeless = [
  "seed",
  "minP",
  "frequencyPenalty",
  "presencePenalty",
  "logitBias",
  "user",
  "parallelToolCalls",
] as const;
/** By OpenAI's names. */
const serviceTiers: ReadonlyMap<string, string> = new Map([
  ["default", "default"],
  ["flex", "flex"],
  ["priority", "priority"],
]);
