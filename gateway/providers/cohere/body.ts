/** A canonical request as the body of one of Cohere's chats. */
import type {
  CanonicalRequest,
  FunctionTool,
  OutputFormat,
  Reasoning,
  Tool,
} from "../../canonical/request.ts";
import { unsupported, type Written, writeMessages } from "./turns.ts";

/**
 * @throws HubError `unsupported_parameter` for what would change the answer if it were left out
 * @see https://docs.cohere.com/reference/chat, read in November 2026
 */
export function writeCohereBody(request: CanonicalRequest): {
  body: Record<string, unknown>;
  dropped: string[];
} {
  refuseWhatItLacks(request);
  const dropped = new Set<string>();
  const { output, topLogprobs, stop } = request;
  // It takes no documents together with a format.
  const written: Written = { dropped, documents: output ? undefined : [] };
  const messages = writeMessages(request, written);
  const body: Record<string, unknown> = {
    model: request.model,
    stream: request.stream,
    messages,
    ...writeTools(request, dropped),
    documents: written.documents?.length ? written.documents : undefined,
    response_format: output && writeFormat(output),
    max_tokens: request.outputTokensMax,
    stop_sequences: stop.length > 0 ? stop : undefined,
    temperature: request.temperature,
    p: within(request.topP, { name: "topP", min: 0.01, max: 0.99, dropped }),
    k: within(request.topK, { name: "topK", min: 0, max: 500, dropped }),
    seed: request.seed,
    ...writePenalties(request, dropped),
    logprobs: topLogprobs === undefined ? undefined : true,
    thinking: request.reasoning && writeThinking(request.reasoning),
  };
  for (const name of placeless) if (request[name] !== undefined) dropped.add(name);
  for (const [name, value] of Object.entries(request.rest)) {
    if (ownFields.has(name) && body[name] === undefined) body[name] = value;
    else dropped.add(name);
  }
  for (const [name, value] of Object.entries(body)) if (value === undefined) delete body[name];
  return { body, dropped: [...dropped] };
}

function refuseWhatItLacks({
  choices,
  topLogprobs,
  logitBias,
  output,
  tools,
  stop,
}: CanonicalRequest): void {
  if (choices > 1) {
    throw unsupported("n", "Several choices for one request are not supported with this model.");
  }
  if ((topLogprobs ?? 0) > 0) {
    throw unsupported(
      "top_logprobs",
      "This model tells the log-probabilities of the tokens that it said, and no others.",
    );
  }
  if (logitBias) throw unsupported("logit_bias", "This model takes no biases.");
  if (output && tools.length > 0) {
    throw unsupported(
      "response_format",
      "This model takes either tools or a format of its answer, and not both.",
    );
  }
  if (stop.length > stopMax) {
    throw unsupported("stop", `More than ${stopMax} stop sequences are not supported.`);
  }
}

type WrittenTools = { tools?: object[]; tool_choice?: string; strict_tools?: boolean };

/** One tool by its name is to be called where it is the only one there is. */
function writeTools(
  { tools, toolChoice, parallelToolCalls }: CanonicalRequest,
  dropped: Set<string>,
): WrittenTools {
  const named = toolChoice?.type === "tool" ? toolChoice.name : undefined;
  const offered = named === undefined ? tools : tools.filter((tool) => nameOf(tool) === named);
  if (tools.length === 0) return {};
  if (offered.length === 0) {
    throw unsupported("tool_choice", "The tool that has to be called is not among the tools.");
  }
  const functions = offered.map(toFunction);
  if (functions.some(({ cache }) => cache)) dropped.add("cache_control");
  if (parallelToolCalls !== undefined) dropped.add("parallelToolCalls");
  // For all tools or none, and not for one that may be called without arguments.
  const strict = functions.filter((tool) => tool.strict);
  const allStrict = strict.length === functions.length && strict.every(hasRequired);
  if (strict.length > 0 && !allStrict) dropped.add("tools.strict");
  const forced = toolChoice?.type === "required" || named !== undefined;
  return {
    tools: functions.map(({ name, description, parameters }) => ({
      type: "function",
      function: {
        name,
        ...(description !== undefined && { description }),
        parameters: parameters ?? { type: "object", properties: {} },
      },
    })),
    ...(forced && { tool_choice: "REQUIRED" }),
    ...(toolChoice?.type === "none" && { tool_choice: "NONE" }),
    ...(allStrict && { strict_tools: true }),
  };
}

function nameOf(tool: Tool): string | undefined {
  return tool.type === "native" ? undefined : tool.name;
}

function toFunction(tool: Tool): FunctionTool {
  switch (tool.type) {
    case "function":
      return tool;
    case "custom":
      throw unsupported(
        "tools",
        `The tool '${tool.name.slice(0, 100)}' takes free text, and this model's tools take JSON. Declare it as a function.`,
      );
    case "native": {
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

function hasRequired({ parameters }: FunctionTool): boolean {
  const required = parameters?.required;
  return Array.isArray(required) && required.length > 0;
}

function writeFormat(output: OutputFormat): object {
  if (output.type === "json") return { type: "json_object" };
  return { type: "json_object", json_schema: output.schema };
}

/** It takes one of the two, from 0 to 1. */
function writePenalties(
  { frequencyPenalty, presencePenalty }: CanonicalRequest,
  dropped: Set<string>,
): Record<string, number | undefined> {
  const bounds = { min: 0, max: 1, dropped };
  const frequency_penalty = within(frequencyPenalty, { name: "frequencyPenalty", ...bounds });
  if (frequency_penalty && presencePenalty) dropped.add("presencePenalty");
  if (frequency_penalty) return { frequency_penalty };
  return { presence_penalty: within(presencePenalty, { name: "presencePenalty", ...bounds }) };
}

function within(
  value: number | undefined,
  { name, min, max, dropped }: { name: string; min: number; max: number; dropped: Set<string> },
): number | undefined {
  if (value === undefined) return undefined;
  const taken = Math.min(Math.max(value, min), max);
  if (taken !== value) dropped.add(name);
  return taken;
}

/** It thinks or does not, for as many tokens as it is given. */
function writeThinking({ effort, tokensMax }: Reasoning): object {
  if (effort === "none" || tokensMax === 0) return { type: "disabled" };
  const budget = tokensMax ?? (effort && budgets[effort]);
  return { type: "enabled", ...(budget !== undefined && { token_budget: budget }) };
}

const stopMax = 5;
/** Fields that Cohere has nothing for, and that an answer can do without. */
const placeless = ["minP", "user", "metadata"] as const;
/** Its own, which pass where a client names them. */
const ownFields: ReadonlySet<string> = new Set([
  "documents",
  "citation_options",
  "safety_mode",
  "priority",
]);
/** From high on a model thinks as long as it likes. */
const budgets: { [effort in NonNullable<Reasoning["effort"]>]?: number } = {
  minimal: 512,
  low: 2048,
  medium: 8192,
};
