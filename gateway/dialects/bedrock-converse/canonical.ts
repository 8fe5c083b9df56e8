/** A request to Converse in canonical form, for providers that speak otherwise. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  OutputFormat,
  Reasoning,
  Tool,
  ToolChoice,
} from "../../canonical/request.ts";
import { readInstructions, readMessages } from "./messages.ts";
import { type ConverseBody, converseBody } from "./schema.ts";

/** @throws HubError naming the field that has no place in any other dialect */
export function readCanonicalConverse(
  read: ConverseBody,
  {
    body,
    model,
    stream,
  }: { body: Readonly<Record<string, unknown>>; model: string; stream: boolean },
): CanonicalRequest {
  if (read.guardrailConfig != null) throw unsupported("guardrailConfig");
  if (read.promptVariables != null) throw unsupported("promptVariables");
  const { inferenceConfig, requestMetadata, serviceTier } = read;
  const { top_k, thinking, reasoning_effort, ...others } = read.additionalModelRequestFields ?? {};
  return {
    model,
    instructions: readInstructions(read.system ?? []),
    turns: readMessages(read.messages),
    ...readTools(read.toolConfig),
    ...present("output", readOutput(read.outputConfig)),
    ...present("outputTokensMax", inferenceConfig?.maxTokens),
    choices: 1,
    ...present("temperature", inferenceConfig?.temperature),
    ...present("topP", inferenceConfig?.topP),
    ...(typeof top_k === "number" && { topK: top_k }),
    stop: inferenceConfig?.stopSequences ?? [],
    ...present("reasoning", readReasoning(thinking, read.outputConfig?.effort ?? reasoning_effort)),
    ...present("metadata", requestMetadata),
    stream,
    rest: {
      ...(serviceTier && { service_tier: serviceTier.type }),
      ...Object.fromEntries(
        Object.entries(others).map(([name, value]) => [
          `additionalModelRequestFields.${name}`,
          value,
        ]),
      ),
      ...Object.fromEntries(
        Object.entries(body).filter(([name, value]) => !known.has(name) && value != null),
      ),
    },
  };
}

function readTools(config: ConverseBody["toolConfig"]): { tools: Tool[]; toolChoice?: ToolChoice } {
  const tools: Tool[] = [];
  for (const { toolSpec, cachePoint, ...native } of config?.tools ?? []) {
    const last = tools.at(-1);
    if (toolSpec) {
      const { name, description, inputSchema, strict } = toolSpec;
      tools.push({
        type: "function",
        name,
        ...present("description", description),
        parameters: inputSchema.json,
        ...present("strict", strict),
      });
    } else if (cachePoint && last?.type === "function") {
      last.cache = present("ttl", cachePoint.ttl);
    } else if (Object.keys(native).length > 0) {
      tools.push({ type: "native", dialect: "bedrock-converse", tool: native });
    }
  }
  const { any, tool, auto } = config?.toolChoice ?? {};
  if (tool) return { tools, toolChoice: { type: "tool", name: tool.name } };
  if (any) return { tools, toolChoice: { type: "required" } };
  return { tools, ...(auto && { toolChoice: { type: "auto" } }) };
}

/** The schema is a text there. */
function readOutput(config: ConverseBody["outputConfig"]): OutputFormat | undefined {
  const asked = config?.textFormat?.structure.jsonSchema;
  if (!asked) return undefined;
  const param = "outputConfig.textFormat.structure.jsonSchema.schema";
  let schema: unknown;
  try {
    schema = JSON.parse(asked.schema);
  } catch (cause) {
    throw new HubError("invalid_value", `Invalid '${param}': it is no JSON.`, { param, cause });
  }
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    throw new HubError("invalid_value", `Invalid '${param}': it is no JSON schema.`, { param });
  }
  return {
    type: "json_schema",
    name: asked.name ?? "response",
    schema: schema as Record<string, unknown>,
    ...present("description", asked.description),
  };
}

/** As the models behind Bedrock are asked: Claude by its thinking, others by an effort. */
function readReasoning(thinking: unknown, effort: unknown): Reasoning | undefined {
  const { type, budget_tokens } = (thinking ?? {}) as { type?: unknown; budget_tokens?: unknown };
  const known = efforts.find((one) => one === effort);
  if (type === "disabled") return { effort: "none" };
  if (typeof budget_tokens === "number") return { tokensMax: budget_tokens, visible: true };
  if (known) return { effort: known, ...(type === "adaptive" && { visible: true }) };
  return type === "adaptive" ? { visible: true } : undefined;
}

/** A field that is there only when it has a value. */
function present<K extends string, V>(name: K, value: V | null | undefined): { [key in K]?: V } {
  return (value == null ? {} : { [name]: value }) as { [key in K]?: V };
}

function unsupported(param: string): HubError {
  return new HubError(
    "unsupported_parameter",
    `Unsupported parameter: '${param}' is not supported with this model.`,
    { param },
  );
}

const efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"] as const;
/** What is read here, or acted on by the gateway itself. */
const known: ReadonlySet<string> = new Set([
  ...Object.keys(converseBody.shape),
  "modelId",
  "adapters",
]);
