/**
 * What the model behind all clients says: the same in every provider's words, and only what follows from the request, so
 * that a client can be asked whether it got it. It is no language model.
 */
import type { EmulatedMessage, MessagesRequest } from "../emulators/anthropic.ts";
import type { GeminiEmulatedAnswer, GeminiEmulatedRequest } from "../emulators/gemini.ts";
import type { EmulatedAnswer, EmulatedRequest } from "../emulators/openai.ts";

type Schema = {
  type?: string | string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  $ref?: string;
  $defs?: Record<string, Schema>;
};
type Tool = { name: string; schema: Schema };
type Asked = {
  question: string;
  /** What the tools answered since. */
  results: string[];
  tools: Tool[];
  /** A tool that has to be called: its name, or any. */
  forced: string | boolean;
  schema: Schema | undefined;
};
type Said = { text: string } | { calls: { name: string; input: unknown }[] };

export const plainAnswer = "Hello from the scripted model.";
/** Long enough to be left in the middle. */
const longAnswer = "once upon a time ".repeat(500);
const cities = ["Paris", "Rome", "San Francisco"];

function say({ question, results, tools, forced, schema }: Asked): Said {
  if (results.length > 0) return { text: `The tools say: ${results.join(" and ")}` };
  const weather = tools.find(({ name }) => /weather/i.test(name));
  const asksWeather = cities.filter((city) => question.includes(city));
  if (weather && asksWeather.length > 0) {
    const [place = "city"] = Object.keys(weather.schema.properties ?? {});
    return { calls: asksWeather.map((city) => ({ name: weather.name, input: { [place]: city } })) };
  }
  const shell = tools.find(({ name }) => name in shellCalls);
  if (shell && question.includes("echo hi42")) {
    return { calls: [{ name: shell.name, input: shellCalls[shell.name] }] };
  }
  const wanted = tools.find(({ name }) => name === forced) ?? (forced ? tools[0] : undefined);
  if (wanted) {
    return { calls: [{ name: wanted.name, input: exampleOf(wanted.schema, wanted.schema) }] };
  }
  if (schema) return { text: JSON.stringify(exampleOf(schema, schema)) };
  return { text: question.includes("very long") ? longAnswer : plainAnswer };
}

/** How agents call their shells. */
const shellCalls: Record<string, unknown> = {
  exec_command: { cmd: "echo hi42" },
  shell: { command: ["bash", "-lc", "echo hi42"] },
  bash: { command: "echo hi42", description: "Says hi" },
};

/** The same value for the same schema: every text is Ada, every number 36. */
function exampleOf(schema: Schema, root: Schema): unknown {
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.$ref) return exampleOf(root.$defs?.[schema.$ref.split("/").at(-1) ?? ""] ?? {}, root);
  if (schema.anyOf) return exampleOf(schema.anyOf[0] ?? {}, root);
  switch ([schema.type].flat()[0]?.toLowerCase()) {
    case "object":
      return Object.fromEntries(
        Object.entries(schema.properties ?? {}).map(([name, one]) => [name, exampleOf(one, root)]),
      );
    case "array":
      return [exampleOf(schema.items ?? {}, root)];
    case "integer":
    case "number":
      return 36;
    case "boolean":
      return true;
    default:
      return "Ada";
  }
}

/** Of its every answer; clients only want to be told. */
const usage = { prompt_tokens: 12, completion_tokens: 6, total_tokens: 18 };

let calls = 0;
const newId = () => `call_scripted_${++calls}`;

/** For `POST /v1/chat/completions` and `/v1/responses`, which the emulator answers alike. */
export function answerAsOpenAi(request: EmulatedRequest): EmulatedAnswer {
  const said = say(request.input === undefined ? readChat(request) : readResponses(request));
  if ("text" in said) return { content: said.text, usage };
  return {
    content: "",
    usage,
    toolCalls: said.calls.map(({ name, input }) => ({
      id: newId(),
      name,
      arguments: JSON.stringify(input),
    })),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: requests of several formats, read where they are known to be right
type Any = any;

function readChat({ messages, tools, tool_choice, response_format }: Any): Asked {
  const asked = lastOf(messages, ({ role }) => role === "user");
  const after = messages.slice(messages.indexOf(asked) + 1);
  return {
    question: textOf(asked?.content),
    results: after.filter((one: Any) => one.role === "tool").map((one: Any) => textOf(one.content)),
    tools: (tools ?? []).flatMap((tool: Any) =>
      tool.function ? [{ name: tool.function.name, schema: tool.function.parameters ?? {} }] : [],
    ),
    forced: tool_choice?.function?.name ?? tool_choice === "required",
    schema: response_format?.json_schema?.schema ?? response_format?.schema,
  };
}

function readResponses({ input, tools, tool_choice, text }: Any): Asked {
  const items = typeof input === "string" ? [{ role: "user", content: input }] : input;
  const asked = lastOf(items, ({ role }) => role === "user");
  const after = items.slice(items.indexOf(asked) + 1);
  return {
    question: textOf(asked?.content),
    results: after
      .filter((item: Any) => item.type === "function_call_output")
      .map((item: Any) => textOf(item.output)),
    tools: (tools ?? []).flatMap((tool: Any) =>
      tool.type === "function" ? [{ name: tool.name, schema: tool.parameters ?? {} }] : [],
    ),
    forced: tool_choice?.name ?? tool_choice === "required",
    schema: text?.format?.schema,
  };
}

export function answerAsAnthropic(request: MessagesRequest): EmulatedMessage {
  const { messages, tools, tool_choice, output_config } = request as Any;
  const blocks = (content: Any) =>
    typeof content === "string" ? [{ type: "text", text: content }] : content;
  const all = messages.flatMap(({ role, content }: Any) =>
    blocks(content).map((block: Any) => ({ ...block, role })),
  );
  const asked = lastOf(all, ({ role, type }) => role === "user" && type === "text");
  const said = say({
    question: asked?.text ?? "",
    results: all
      .slice(all.indexOf(asked) + 1)
      .filter((block: Any) => block.type === "tool_result")
      .map((block: Any) => textOf(block.content)),
    tools: (tools ?? []).flatMap((tool: Any) =>
      tool.input_schema ? [{ name: tool.name, schema: tool.input_schema }] : [],
    ),
    forced: tool_choice?.name ?? tool_choice?.type === "any",
    schema: output_config?.format?.schema,
  });
  if ("text" in said) return { content: [{ type: "text", text: said.text }] };
  return {
    content: said.calls.map((call) => ({ type: "tool_use", id: newId(), ...call })),
    stop_reason: "tool_use",
  };
}

export function answerAsGemini({ body }: GeminiEmulatedRequest): GeminiEmulatedAnswer {
  const { contents, tools, toolConfig, generationConfig } = body as Any;
  const parts = contents.flatMap(({ role, parts }: Any) =>
    parts.map((part: Any) => ({ ...part, role })),
  );
  const asked = lastOf(parts, ({ role, text }) => role === "user" && text !== undefined);
  const { mode, allowedFunctionNames } = toolConfig?.functionCallingConfig ?? {};
  const said = say({
    question: asked?.text ?? "",
    results: parts
      .slice(parts.indexOf(asked) + 1)
      .filter((part: Any) => part.functionResponse)
      .map(({ functionResponse: { response } }: Any) =>
        textOf(response.result ?? response.output ?? response),
      ),
    tools: (tools ?? [])
      .flatMap((tool: Any) => tool.functionDeclarations ?? [])
      .map((one: Any) => ({
        name: one.name,
        schema: one.parametersJsonSchema ?? one.parameters ?? {},
      })),
    forced: mode === "ANY" ? (allowedFunctionNames?.[0] ?? true) : false,
    schema: generationConfig?.responseJsonSchema ?? generationConfig?.responseSchema,
  });
  if ("text" in said) return { parts: [{ text: said.text }] };
  return {
    parts: said.calls.map(({ name, input }) => ({ functionCall: { name, args: input } })),
  };
}

function lastOf(list: Any[], fits: (one: Any) => boolean): Any {
  return list.findLast(fits);
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return content == null ? "" : JSON.stringify(content);
  return content.map((part: { text?: string }) => part.text ?? "").join(" ");
}
