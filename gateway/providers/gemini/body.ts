/** A canonical request as the body of Gemini's `generateContent`. */
import type {
  CanonicalRequest,
  FunctionTool,
  OutputFormat,
  Reasoning,
  TextPart,
  Tool,
  ToolChoice,
} from "../../canonical/request.ts";
import { isBeforeGemini3, unsupported, writeContents } from "./contents.ts";
import { toGeminiSchema } from "./json-schema.ts";

/**
 * The model's name is part of the address and not of the body, but decides how thinking is asked for.
 * @throws HubError `unsupported_parameter` for what would change the answer if it were left out
 */
export function writeGeminiBody(request: CanonicalRequest): {
  body: Record<string, unknown>;
  dropped: string[];
} {
  const { model, stop } = request;
  const dropped = new Set<string>();
  if (stop.length > stopMax) {
    throw unsupported("stop", `More than ${stopMax} stop sequences (${stop.length})`);
  }
  const contents = writeContents(request.turns, { model, dropped });
  const instructions = writeInstructions(request.instructions, dropped);
  const declarations = request.tools.map((tool) => writeTool(tool, dropped));
  const generationConfig = present({
    temperature: request.temperature,
    topP: request.topP,
    topK: request.topK,
    candidateCount: request.choices > 1 ? request.choices : undefined,
    maxOutputTokens: request.outputTokensMax,
    stopSequences: stop.length > 0 ? stop : undefined,
    frequencyPenalty: request.frequencyPenalty,
    presencePenalty: request.presencePenalty,
    seed: request.seed,
    responseLogprobs: request.topLogprobs === undefined ? undefined : true,
    // No further ones beside the chosen is the default, and 0 is refused.
    logprobs: request.topLogprobs || undefined,
    ...(request.output && writeOutput(request.output, dropped)),
    thinkingConfig: request.reasoning && writeThinking(request.reasoning, model),
  });
  const body = present({
    // Instructions alone are no conversation to Gemini.
    contents: contents.length > 0 ? contents : [{ role: "user", parts: instructions }],
    systemInstruction:
      contents.length > 0 && instructions.length > 0 ? { parts: instructions } : undefined,
    tools: declarations.length > 0 ? [{ functionDeclarations: declarations }] : undefined,
    toolConfig: declarations.length > 0 ? writeToolConfig(request) : undefined,
    generationConfig: Object.keys(generationConfig).length > 0 ? generationConfig : undefined,
  });
  for (const name of placeless) if (request[name] !== undefined) dropped.add(name);
  for (const name of Object.keys(request.rest)) dropped.add(name);
  return { body, dropped: [...dropped] };
}

function writeInstructions(parts: readonly TextPart[], dropped: Set<string>): { text: string }[] {
  if (parts.some(({ cache }) => cache)) dropped.add("cache_control");
  return parts.flatMap(({ text }) => (text === "" ? [] : [{ text }]));
}

function writeTool(tool: Tool, dropped: Set<string>): Record<string, unknown> {
  switch (tool.type) {
    case "function": {
      const { name, description, parameters, cache } = tool;
      if (cache) dropped.add("cache_control");
      return present({
        name,
        description,
        parametersJsonSchema: parameters && toGeminiSchema(parameters, dropped),
      });
    }
    case "custom":
      throw unsupported("tools", `The custom tool '${tool.name.slice(0, 100)}'`);
    case "native": {
      const type = tool.tool.type ?? Object.keys(tool.tool)[0];
      throw unsupported("tools", `The tool '${String(type).slice(0, 100)}' of another provider`);
    }
    default:
      return tool satisfies never;
  }
}

/** Where arguments have to fit their schemas, calls are `VALIDATED` instead of free. */
function writeToolConfig({ toolChoice, tools }: CanonicalRequest): unknown {
  const isStrict = tools.some((tool): tool is FunctionTool => "strict" in tool && !!tool.strict);
  const config = writeChoice(toolChoice ?? { type: "auto" }, isStrict);
  return config && { functionCallingConfig: config };
}

function writeChoice(choice: ToolChoice, isStrict: boolean): object | undefined {
  switch (choice.type) {
    case "auto":
      return isStrict ? { mode: "VALIDATED" } : undefined;
    case "none":
      return { mode: "NONE" };
    case "required":
      return { mode: "ANY" };
    case "tool":
      return { mode: "ANY", allowedFunctionNames: [choice.name] };
    default:
      return choice satisfies never;
  }
}

function writeOutput(output: OutputFormat, dropped: Set<string>): Record<string, unknown> {
  const responseMimeType = "application/json";
  if (output.type === "json") return { responseMimeType };
  return { responseMimeType, responseJsonSchema: toGeminiSchema(output.schema, dropped) };
}

/** Gemini 3 thinks by levels, and those before it by tokens; which of them Google counts for a level it tells itself. */
function writeThinking(
  { effort, tokensMax, visible }: Reasoning,
  model: string,
): Record<string, unknown> {
  const thinks = effort !== "none" && tokensMax !== 0;
  const shown = { ...(thinks && visible !== false && { includeThoughts: true }) };
  if (tokensMax !== undefined) return { thinkingBudget: tokensMax, ...shown };
  if (effort === undefined) return shown;
  if (isBeforeGemini3(model)) return { thinkingBudget: budgets[effort], ...shown };
  return { thinkingLevel: levels[effort], ...shown };
}

function present(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

const stopMax = 5;
/** Fields that Gemini has nothing for, and that an answer can do without. */
const placeless = ["minP", "logitBias", "user", "metadata", "parallelToolCalls"] as const;

type Effort = NonNullable<Reasoning["effort"]>;
/** @see https://ai.google.dev/gemini-api/docs/openai#thinking */
const budgets: Record<Effort, number> = {
  none: 0,
  minimal: 1024,
  low: 1024,
  medium: 8192,
  high: 24576,
  xhigh: 24576,
  max: 24576,
};
/** None is not to be had from Gemini 3; the least there is comes nearest. */
const levels: Record<Effort, string> = {
  none: "minimal",
  minimal: "minimal",
  low: "low",
  medium: "medium",
  high: "high",
  xhigh: "high",
  max: "high",
};
