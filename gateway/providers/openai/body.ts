/** A canonical request as a chat completion's body. */
import { hash } from "node:crypto";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type {
  CanonicalRequest,
  FilePart,
  InputPart,
  OutputFormat,
  OutputPart,
  Reasoning,
  TextPart,
  Tool,
  ToolChoice,
  ToolResult,
  Turn,
} from "../../canonical/request.ts";
import { toDataUrl } from "../../dialects/data-url.ts";
import { imageUrl } from "../image-url.ts";

/**
 * What differs among those that speak it. OpenAI itself refuses what it does not know; engines such as vLLM and
 * our own know more sampling, and no efforts.
 */
export type ChatBodyOptions = {
  samplesMore: boolean;
  reasons: boolean;
  /** What it calls otherwise. */
  names?: { outputTokensMax?: "max_tokens"; seed?: "random_seed" };
  /** What it has no place for; left out and told. */
  lacks?: readonly ("seed" | "user" | "parallelToolCalls")[];
  /** What it has no place for and would be missed; refused by name. */
  refuses?: readonly ("choices" | "logitBias" | "topLogprobs" | "jsonSchema" | "media")[];
  /** Its word for that some tool has to be called. */
  anyTool?: "any";
  /** Then it is given no tools but those that may be called. */
  ignoresToolChoice?: boolean;
  /** Above it, it refuses. */
  temperatureMax?: number;
  /** Ids of calls have nine letters and digits. */
  shortCallIds?: boolean;
  /** Thoughts go back to it with the conversation. */
  returnsReasoning?: boolean;
  /** Whether it knows tools of free text; else they are functions to it. */
  takesFreeText?: boolean;
  /** Whether fields that we do not know go to it as they are. */
  passesRest?: boolean;
  /** Whether it refuses also those of OpenAI's fields that others know or ignore. */
  strict?: boolean;
};

/** @throws HubError `unsupported_parameter` for what would change the answer if it were left out */
export function writeChatBody(
  request: CanonicalRequest,
  options: ChatBodyOptions,
): { body: Record<string, unknown>; dropped: string[] } {
  const { samplesMore, reasons, names, lacks = [], temperatureMax = Infinity } = options;
  const dropped = new Set<string>();
  refuse(request, options.refuses ?? []);
  const { output, toolChoice, reasoning, topLogprobs, stop } = request;
  if (stop.length > stopMax) {
    throw unsupported(
      "stop",
      `${stop.length} stop sequences are more than the ${stopMax} that this model's provider takes.`,
    );
  }
  const given = options.ignoresToolChoice ? callable(request) : request.tools;
  const tools = given.flatMap((tool) => writeTool(tool, dropped));
  const body: Record<string, unknown> = {
    model: request.model,
    messages: [
      ...writeInstructions(request.instructions, dropped),
      ...writeTurns(options.shortCallIds ? withShortIds(request.turns) : request.turns, {
        dropped,
        thoughts: options.returnsReasoning ?? false,
      }),
    ],
    ...(request.stream && { stream: true }),
    ...(tools.length > 0 && { tools }),
    // Without tools OpenAI refuses what is said about them.
    ...(tools.length > 0 &&
      toolChoice && {
        tool_choice: writeToolChoice(toolChoice, request.tools, options),
      }),
    ...(tools.length > 0 && { parallel_tool_calls: request.parallelToolCalls }),
    response_format: output && writeOutputFormat(output),
    [names?.outputTokensMax ?? "max_completion_tokens"]: request.outputTokensMax,
    ...(request.choices > 1 && { n: request.choices }),
    temperature: request.temperature && Math.min(request.temperature, temperatureMax),
    top_p: request.topP,
    frequency_penalty: request.frequencyPenalty,
    presence_penalty: request.presencePenalty,
    logit_bias: request.logitBias,
    [names?.seed ?? "seed"]: request.seed,
    ...(stop.length > 0 && { stop }),
    ...(topLogprobs !== undefined && { logprobs: true, top_logprobs: topLogprobs }),
    user: request.user && toUser(request.user),
  };
  if (samplesMore) Object.assign(body, { top_k: request.topK, min_p: request.minP });
  else {
    if (request.topK !== undefined) dropped.add("topK");
    if (request.minP !== undefined) dropped.add("minP");
  }
  if (reasons) body.reasoning_effort = reasoning && toEffort(reasoning);
  else if (reasoning) dropped.add("reasoning");
  if ((request.temperature ?? 0) > temperatureMax) dropped.add("temperature");
  for (const name of lacks) {
    if (request[name] === undefined) continue;
    delete body[fieldNames[name]];
    dropped.add(name);
  }
  for (const [name, value] of Object.entries(request.rest)) {
    if (options.passesRest || (!options.strict && sharedFields.has(name))) body[name] = value;
    else dropped.add(name);
  }
  for (const [name, value] of Object.entries(body)) if (value === undefined) delete body[name];
  return { body, dropped: [...dropped] };
}

function writeInstructions(parts: readonly TextPart[], dropped: Set<string>): object[] {
  if (parts.length === 0) return [];
  return [{ role: "system", content: joined(parts, dropped) }];
}

/** A tool's pictures follow in a user's turn: its own message takes text alone. */
function writeTurns(
  turns: readonly Turn[],
  { dropped, thoughts }: { dropped: Set<string>; thoughts: boolean },
): object[] {
  const messages: object[] = [];
  let shown: InputPart[] = [];
  const show = () => {
    if (shown.length > 0)
      messages.push({ role: "user", content: shown.map((part) => writeInput(part, dropped)) });
    shown = [];
  };
  for (const turn of turns) {
    if (turn.role !== "tool") show();
    switch (turn.role) {
      case "system":
        messages.push({ role: "system", content: joined(turn.parts, dropped) });
        break;
      case "user":
        messages.push({ role: "user", content: writeContent(turn.parts, dropped) });
        break;
      case "assistant":
        messages.push(writeAssistant(turn.parts, { dropped, thoughts }));
        break;
      case "tool":
        messages.push(writeResult(turn.result, dropped));
        for (const part of turn.result.parts) if (part.type !== "text") shown.push(part);
        break;
      default:
        turn satisfies never;
    }
  }
  show();
  return messages;
}

function writeContent(parts: readonly InputPart[], dropped: Set<string>): string | object[] {
  if (parts.every((part) => part.type === "text")) return joined(parts, dropped);
  return parts.map((part) => writeInput(part, dropped));
}

function writeInput(part: InputPart, dropped: Set<string>): object {
  if ("cache" in part && part.cache) dropped.add("cache_control");
  switch (part.type) {
    case "text":
      return { type: "text", text: part.text };
    case "image":
      return {
        type: "image_url",
        image_url: { url: imageUrl(part), ...(part.detail && { detail: part.detail }) },
      };
    case "audio":
      return { type: "input_audio", input_audio: { data: part.base64, format: part.format } };
    case "file":
      return writeText(part) ?? { type: "file", file: writeFile(part) };
    default:
      return part satisfies never;
  }
}

/** A plain text needs no reader of files, which few engines have. */
function writeText({ source, name }: FilePart): object | undefined {
  if (source.type !== "base64" || source.mediaType !== "text/plain") return undefined;
  const text = Buffer.from(source.data, "base64").toString("utf8");
  return { type: "text", text: name === undefined ? text : `${name}\n\n${text}` };
}

function writeFile({ source, name }: FilePart): object {
  switch (source.type) {
    case "url":
      throw unsupported(
        "messages",
        "A file by URL is not supported with this model; send its data.",
      );
    case "base64":
      return { filename: name ?? "file", file_data: toDataUrl(source) };
    case "file_id":
      return { file_id: source.id };
    default:
      return source satisfies never;
  }
}

function writeAssistant(
  parts: readonly OutputPart[],
  { dropped, thoughts }: { dropped: Set<string>; thoughts: boolean },
): object {
  const texts = parts.flatMap((part) => (part.type === "text" ? [part] : []));
  const refusals = parts.flatMap((part) => (part.type === "refusal" ? [part.text] : []));
  const calls = parts.flatMap((part) => (part.type === "tool_call" ? [part] : []));
  const thought = parts.flatMap((part) => (part.type === "reasoning" ? [part.text] : [])).join("");
  if (thought !== "" && !thoughts) dropped.add("messages.reasoning");
  return {
    role: "assistant",
    content: texts.length === 0 && calls.length > 0 ? null : joined(texts, dropped),
    ...(thought !== "" && thoughts && { reasoning_content: thought }),
    ...(refusals.length > 0 && { refusal: refusals.join("") }),
    ...(calls.length > 0 && {
      tool_calls: calls.map(({ id, name, custom, arguments: input }) =>
        custom
          ? { id, type: "custom", custom: { name, input } }
          : { id, type: "function", function: { name, arguments: input } },
      ),
    }),
  };
}

function writeResult({ callId, parts, isError }: ToolResult, dropped: Set<string>): object {
  const text = joined(
    parts.filter((part) => part.type === "text"),
    dropped,
  );
  // There is no field that says so; the model has to be told all the same.
  return { role: "tool", tool_call_id: callId, content: isError ? `Error: ${text}` : text };
}

function joined(parts: readonly TextPart[], dropped: Set<string>): string {
  if (parts.some(({ cache }) => cache)) dropped.add("cache_control");
  return parts.map(({ text }) => text).join("\n\n");
}

/** The tools that a request lets the model call. */
function callable({ tools, toolChoice }: CanonicalRequest): readonly Tool[] {
  if (toolChoice?.type === "none") return [];
  if (toolChoice?.type !== "tool") return tools;
  return tools.filter((tool) => "name" in tool && tool.name === toolChoice.name);
}

function writeTool(tool: Tool, dropped: Set<string>): object[] {
  switch (tool.type) {
    case "function": {
      const { name, description, parameters, strict, cache } = tool;
      if (cache) dropped.add("cache_control");
      const schema = parameters ?? { type: "object", properties: {} };
      const shown = { name, description, parameters: schema, strict };
      return [{ type: "function", function: shown }];
    }
    case "custom": {
      const { name, description, format } = tool;
      return [{ type: "custom", custom: { name, description, format } }];
    }
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

function writeToolChoice(
  choice: ToolChoice,
  tools: readonly Tool[],
  { anyTool }: ChatBodyOptions,
): unknown {
  if (choice.type === "required") return anyTool ?? "required";
  if (choice.type !== "tool") return choice.type;
  const { name } = choice;
  const isCustom = tools.some((tool) => tool.type === "custom" && tool.name === name);
  return isCustom ? { type: "custom", custom: { name } } : { type: "function", function: { name } };
}

function writeOutputFormat(output: OutputFormat): unknown {
  if (output.type === "json") return { type: "json_object" };
  const { name, description, schema, strict } = output;
  return { type: "json_schema", json_schema: { name, description, schema, strict } };
}

/** OpenAI refuses longer names, and only ever compares them. */
function toUser(user: string): string {
  return user.length <= userCharsMax ? user : hash("sha256", user);
}

/** Budgets in tokens as the efforts that spend about as much. */
function toEffort({ effort, tokensMax }: Reasoning): string | undefined {
  if (effort !== undefined || tokensMax === undefined) return effort;
  if (tokensMax === 0) return "none";
  return tokensMax <= 2048 ? "low" : tokensMax <= 8192 ? "medium" : "high";
}

function unsupported(param: string, message: string): HubError {
  return new HubError("unsupported_parameter", message, { param });
}

/** @throws HubError `unsupported_parameter` that names the first of what the provider cannot honour */
function refuse(request: CanonicalRequest, refused: NonNullable<ChatBodyOptions["refuses"]>): void {
  const asked = {
    choices: request.choices > 1 && "n",
    logitBias: request.logitBias && "logit_bias",
    topLogprobs: request.topLogprobs !== undefined && "logprobs",
    jsonSchema: request.output?.type === "json_schema" && "response_format",
    media: request.turns.some(hasMedia) && "messages",
  };
  for (const name of refused) {
    const param = asked[name];
    if (param) {
      throw unsupported(
        param,
        `Unsupported parameter: '${param}' is not supported by this model's provider.`,
      );
    }
  }
}

function hasMedia(turn: Turn): boolean {
  return turn.role === "user" && turn.parts.some(({ type }) => type !== "text");
}

/** The same short id for a call and its result; of two long ones that share it a conversation would have to have many. */
function withShortIds(turns: readonly Turn[]): Turn[] {
  return turns.map((turn): Turn => {
    switch (turn.role) {
      case "assistant": {
        const parts = turn.parts.map((part) =>
          part.type === "tool_call" ? { ...part, id: shortId(part.id) } : part,
        );
        return { ...turn, parts };
      }
      case "tool":
        return { ...turn, result: { ...turn.result, callId: shortId(turn.result.callId) } };
      default:
        return turn;
    }
  });
}

function shortId(id: string): string {
  if (/^[a-zA-Z0-9]{9}$/.test(id)) return id;
  return hash("sha256", id).slice(0, 9);
}

const fieldNames = { seed: "seed", user: "user", parallelToolCalls: "parallel_tool_calls" };
const stopMax = 4;
const userCharsMax = 64;
/** Fields of other dialects that mean the same here. */
const sharedFields: ReadonlySet<string> = new Set([
  "service_tier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "store",
  "verbosity",
]);
