/** OpenAI, emulated: its chats and its responses. */
import { type EmulatedAnswer, startOpenAiEmulator } from "../../emulators/openai.ts";
import type { Fault, Upstream } from "../driver.ts";
import { nothingSeen, type Said, type Seen, say } from "../neutral.ts";

export const openAiKey = "sk-of-openai";

/** @param api which of the two is spoken to it */
export async function startOpenAi(
  api: "chat" | "responses",
): Promise<Upstream & { baseUrl: string }> {
  let script: readonly Said[] = [];
  let turn = 0;
  const emulator = await startOpenAiEmulator({
    strict: true,
    apiKey: openAiKey,
    answer: () => toAnswer(script[Math.min(turn++, script.length - 1)] ?? {}),
  });
  return {
    name: api === "chat" ? "OpenAI chat" : "OpenAI responses",
    baseUrl: emulator.baseUrl,
    model: (fault) => `gpt-5${fault ? `!${faults[fault]}` : ""}`,
    prepare(said) {
      script = said;
      turn = 0;
    },
    seen() {
      const body = (emulator.requests.at(-1)?.body ?? {}) as Fields;
      if ("prompt" in body) return readCompletion(body);
      return api === "chat" ? readChat(body) : readResponses(body);
    },
    scripted: true,
    tells: { cacheRead: true, cacheWrite: true, reasoning: true, logprobs: true },
    seals: api === "responses",
    refuses: true,
    filters: true,
    stopped: false,
    close: () => emulator.close(),
  };
}

const faults: Readonly<Record<Fault, string>> = {
  split: "split",
  "400": "status:400",
  "401": "status:401",
  "429": "status:429",
  "500": "status:500",
  overloaded: "status:503",
  broken: "error-event:3",
  cut: "cut:3",
};

function toAnswer(said: Said): EmulatedAnswer {
  const { text = "", reasoning, calls, refusal, cites, logprobs, end, usage } = said;
  const words = text.match(/\s*\S+|\s+$/g) ?? [];
  return {
    content: text,
    ...(reasoning !== undefined && { reasoning }),
    ...(calls && {
      toolCalls: calls.map(({ id, name, input, freeText }) => ({
        id,
        name,
        arguments: freeText ?? JSON.stringify(input),
        ...(freeText !== undefined && { custom: true }),
      })),
    }),
    ...(refusal !== undefined && { refusal }),
    ...(cites && {
      citations: [{ url: cites.url, title: cites.title, start_index: 0, end_index: cites.end }],
    }),
    ...(logprobs && {
      logprobs: logprobs.map((logprob, at) => ({
        token: words[at] ?? "",
        logprob,
        bytes: [...Buffer.from(words[at] ?? "")],
        top_logprobs: [],
      })),
    }),
    ...(end && { finish: end === "stop_sequence" ? "stop" : end }),
    ...(usage && {
      usage: {
        prompt_tokens: usage.input + (usage.cacheRead ?? 0) + (usage.cacheWrite ?? 0),
        completion_tokens: usage.output + (usage.reasoning ?? 0),
        total_tokens:
          usage.input +
          (usage.cacheRead ?? 0) +
          (usage.cacheWrite ?? 0) +
          usage.output +
          (usage.reasoning ?? 0),
        prompt_tokens_details: {
          cached_tokens: usage.cacheRead ?? 0,
          cache_write_tokens: usage.cacheWrite ?? 0,
        },
        completion_tokens_details: { reasoning_tokens: usage.reasoning ?? 0 },
      },
    }),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: what was sent is any JSON
type Fields = Record<string, any>;

function readCompletion(body: Fields): Seen {
  return {
    ...structuredClone(nothingSeen),
    said: [`user: ${body.prompt}`],
    stop: [body.stop ?? []].flat(),
    outputTokensMax: body.max_tokens,
    temperature: body.temperature,
  };
}

function readChat(body: Fields): Seen {
  const seen = structuredClone(nothingSeen);
  for (const { role, content, tool_calls, tool_call_id } of body.messages as Fields[]) {
    const parts: Fields[] = Array.isArray(content)
      ? content
      : [{ type: "text", text: content ?? "" }];
    const text = parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");
    if (role === "system") seen.system += text;
    else if (role === "tool") {
      seen.results.push({ id: tool_call_id, text, failed: text.startsWith("Error: ") });
    } else say(seen.said, role, text);
    for (const part of parts) {
      if (part.type === "image_url") seen.images.push(withoutHead(part.image_url.url));
      if (part.type === "file") seen.files.push(withoutHead(part.file.file_data));
    }
    for (const { id, custom, function: called } of (tool_calls ?? []) as Fields[]) {
      if (custom) seen.calls.push({ id, name: custom.name, input: custom.input });
      else seen.calls.push({ id, name: called.name, input: JSON.parse(called.arguments) });
    }
  }
  const { tools = [], tool_choice, response_format } = body;
  return {
    ...seen,
    tools: tools.map((tool: Fields) => (tool.function ?? tool.custom).name),
    choice: (tool_choice?.function ?? tool_choice?.custom)?.name ?? tool_choice,
    schema: response_format?.json_schema?.schema,
    stop: [body.stop ?? []].flat(),
    outputTokensMax: body.max_completion_tokens,
    temperature: body.temperature,
    logprobs: body.logprobs === true,
    thinks: body.reasoning_effort !== undefined,
  };
}

function readResponses(body: Fields): Seen {
  const seen = structuredClone(nothingSeen);
  seen.system = body.instructions ?? "";
  for (const item of body.input as Fields[]) {
    switch (item.type ?? "message") {
      case "function_call":
        seen.calls.push({ id: item.call_id, name: item.name, input: JSON.parse(item.arguments) });
        break;
      case "custom_tool_call":
        seen.calls.push({ id: item.call_id, name: item.name, input: item.input });
        break;
      case "custom_tool_call_output":
      case "function_call_output": {
        const text = String(item.output);
        seen.results.push({ id: item.call_id, text, failed: text.startsWith("Error: ") });
        break;
      }
      case "reasoning":
        seen.seals.push(item.encrypted_content);
        break;
      default: {
        const parts: Fields[] = Array.isArray(item.content)
          ? item.content
          : [{ type: "input_text", text: item.content }];
        say(seen.said, item.role, parts.flatMap((part) => part.text ?? []).join("\n"));
        for (const part of parts) {
          if (part.type === "input_image") seen.images.push(withoutHead(part.image_url));
          if (part.type === "input_file") seen.files.push(withoutHead(part.file_data));
        }
      }
    }
  }
  const { tools = [], tool_choice, text } = body;
  return {
    ...seen,
    tools: tools.map((tool: Fields) => tool.name),
    choice: tool_choice?.name ?? tool_choice,
    schema: text?.format?.schema,
    outputTokensMax: body.max_output_tokens,
    temperature: body.temperature,
    logprobs: (body.include ?? []).includes("message.output_text.logprobs"),
    thinks: body.reasoning !== undefined,
  };
}

function withoutHead(url: string): string {
  return url.replace(/^data:[^,]*,/, "");
}
