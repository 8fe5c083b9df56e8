/** A request to `generateContent` in canonical form, for providers that speak otherwise. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  OutputFormat,
  Reasoning,
  Tool,
  ToolChoice,
} from "../../canonical/request.ts";
import { readContents, readInstructions } from "./contents.ts";
import { toJsonSchema } from "./open-api-schema.ts";
import { type GenerateContentBody, generationConfig } from "./schema.ts";

type Config = NonNullable<GenerateContentBody["generationConfig"]>;

/** @throws HubError naming the field that has no place in any other dialect */
export function readCanonicalGemini(
  body: GenerateContentBody,
  { model, stream }: { model: string; stream: boolean },
): CanonicalRequest {
  const config = body.generationConfig ?? ({} as Config);
  refuseOthers(body, config);
  return {
    model,
    instructions: readInstructions(body.systemInstruction),
    turns: readContents(body.contents),
    ...readTools(body),
    ...present("output", readOutputFormat(config)),
    ...present("outputTokensMax", config.maxOutputTokens),
    choices: config.candidateCount ?? 1,
    ...present("temperature", config.temperature),
    ...present("topP", config.topP),
    ...present("topK", config.topK),
    ...present("frequencyPenalty", config.frequencyPenalty),
    ...present("presencePenalty", config.presencePenalty),
    ...present("seed", config.seed),
    stop: config.stopSequences ?? [],
    ...(config.responseLogprobs && { topLogprobs: config.logprobs ?? 0 }),
    ...present("reasoning", readReasoning(config.thinkingConfig)),
    ...present("metadata", body.labels),
    stream,
    rest: { ...others(body, bodyFields), ...others(config, configFields, "generationConfig.") },
  };
}

/** What an answer would miss. */
function refuseOthers(body: GenerateContentBody, config: Config): void {
  if (body.cachedContent != null) throw unsupported("cachedContent");
  if (config.responseModalities?.some((modality) => modality.toUpperCase() !== "TEXT")) {
    throw unsupported("generationConfig.responseModalities");
  }
}

function readTools({ tools, toolConfig }: GenerateContentBody): {
  tools: Tool[];
  toolChoice?: ToolChoice;
} {
  const read = (tools ?? []).flatMap(({ functionDeclarations, ...natives }): Tool[] => [
    ...(functionDeclarations ?? []).map((declared): Tool => {
      const { name, description, parameters, parametersJsonSchema } = declared;
      const schema = parametersJsonSchema ?? (parameters && toJsonSchema(parameters));
      return {
        type: "function",
        name,
        ...present("description", description),
        ...present("parameters", schema),
      };
    }),
    ...Object.entries(natives)
      .filter(([, options]) => options != null)
      .map(([name, options]): Tool => {
        return { type: "native", dialect: "gemini", tool: { [name]: options } };
      }),
  ]);
  const { mode, allowedFunctionNames } = toolConfig?.functionCallingConfig ?? {};
  if (mode === "NONE") return { tools: read, toolChoice: { type: "none" } };
  if (mode !== "ANY") return { tools: read, ...(mode && { toolChoice: { type: "auto" } }) };
  const [only, second] = allowedFunctionNames ?? [];
  if (only === undefined) return { tools: read, toolChoice: { type: "required" } };
  if (second === undefined) return { tools: read, toolChoice: { type: "tool", name: only } };
  const allowed = read.filter(
    (tool) => "name" in tool && allowedFunctionNames?.includes(tool.name),
  );
  return { tools: allowed, toolChoice: { type: "required" } };
}

function readOutputFormat(config: Config): OutputFormat | undefined {
  const { responseMimeType, responseSchema, responseJsonSchema } = config;
  if (responseMimeType == null || responseMimeType === "text/plain") return undefined;
  if (responseMimeType !== "application/json") {
    throw unsupported("generationConfig.responseMimeType");
  }
  const schema = responseJsonSchema ?? (responseSchema && toJsonSchema(responseSchema));
  return schema ? { type: "json_schema", name: "response", schema } : { type: "json" };
}

/** A budget of -1 leaves it to the model, as no budget does. */
function readReasoning(config: Config["thinkingConfig"]): Reasoning | undefined {
  if (!config) return undefined;
  const { thinkingLevel, thinkingBudget, includeThoughts } = config;
  const effort = thinkingLevel === "thinking_level_unspecified" ? undefined : thinkingLevel;
  return {
    ...present("effort", effort),
    ...(thinkingBudget != null && thinkingBudget >= 0 && { tokensMax: thinkingBudget }),
    visible: includeThoughts ?? false,
  };
}

function others(
  message: Readonly<Record<string, unknown>>,
  known: ReadonlySet<string>,
  prefix = "",
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(message)
      .filter(([name, value]) => !known.has(name) && value != null)
      .map(([name, value]) => [prefix + name, value]),
  );
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

/** What is read here, or acted on by the gateway itself. */
const bodyFields: ReadonlySet<string> = new Set([
  "contents",
  "systemInstruction",
  "tools",
  "toolConfig",
  "generationConfig",
  "cachedContent",
  "labels",
  "model",
  "adapters",
]);
const configFields: ReadonlySet<string> = new Set(Object.keys(generationConfig.out.shape));
