/** Anthropic, emulated. */
import {
  type EmulatedBlock,
  type EmulatedMessage,
  startAnthropicEmulator,
} from "../../emulators/anthropic.ts";
import type { Fault, Upstream } from "../driver.ts";
import { nothingSeen, type Said, type Seen, say } from "../neutral.ts";

export const anthropicKey = "sk-of-anthropic";

export async function startAnthropic(): Promise<Upstream & { baseUrl: string }> {
  let script: readonly Said[] = [];
  let turn = 0;
  const emulator = await startAnthropicEmulator({
    apiKey: anthropicKey,
    answer: () => toMessage(script[Math.min(turn++, script.length - 1)] ?? {}),
  });
  return {
    name: "Anthropic",
    baseUrl: emulator.baseUrl,
    // Of those that are asked for thoughts by a budget of tokens.
    model: (fault) => `claude-opus-4-5${fault ? `!${faults[fault]}` : ""}`,
    prepare(said) {
      script = said;
      turn = 0;
    },
    seen: () => read(emulator.requests.at(-1)?.body ?? {}),
    scripted: true,
    tells: { cacheRead: true, cacheWrite: true, reasoning: true, logprobs: false },
    seals: true,
    refuses: true,
    filters: true,
    stopped: true,
    close: () => emulator.close(),
  };
}

const faults: Readonly<Record<Fault, string>> = {
  split: "split",
  "400": "status:400",
  "401": "status:401",
  "429": "rate-limit",
  "500": "status:500",
  overloaded: "overloaded",
  broken: "error-event:5",
  cut: "cut:5",
};

function toMessage(said: Said): EmulatedMessage {
  const { text, reasoning, calls = [], refusal, cites, end, usage } = said;
  const citation = cites && {
    type: "web_search_result_location",
    url: cites.url,
    title: cites.title,
    cited_text: "cited",
    encrypted_index: "aW5kZXg=",
  };
  return {
    content: [
      ...(reasoning === undefined
        ? []
        : [{ type: "thinking", thinking: reasoning, signature: "c2lnbmVk" }]),
      ...(text === undefined
        ? []
        : [{ type: "text", text, ...(citation && { citations: [citation] }) }]),
      ...calls.map(({ id, name, input }) => ({ type: "tool_use", id, name, input })),
    ],
    ...(end && { stop_reason: ends[end] }),
    ...(end === "stop_sequence" && { stop_sequence: "END" }),
    ...(refusal !== undefined && {
      stop_reason: "refusal",
      stop_details: { type: "refusal", category: null, explanation: refusal },
    }),
    ...(usage && {
      usage: {
        input_tokens: usage.input,
        cache_read_input_tokens: usage.cacheRead ?? 0,
        cache_creation_input_tokens: usage.cacheWrite ?? 0,
        output_tokens: usage.output + (usage.reasoning ?? 0),
        output_tokens_details: { thinking_tokens: usage.reasoning ?? 0 },
      },
    }),
  };
}

const ends = { length: "max_tokens", stop_sequence: "stop_sequence", content_filter: "refusal" };

// biome-ignore lint/suspicious/noExplicitAny: what was sent is any JSON
type Fields = Record<string, any>;

function read(body: Fields): Seen {
  const seen = structuredClone(nothingSeen);
  const system: Fields[] =
    typeof body.system === "string" ? [{ text: body.system }] : (body.system ?? []);
  seen.system = system.map(({ text }) => text).join("\n");
  seen.cacheMarks = system.filter((block) => block.cache_control).length;
  for (const { role, content } of body.messages as { role: string; content: unknown }[]) {
    const blocks = (
      typeof content === "string" ? [{ type: "text", text: content }] : content
    ) as EmulatedBlock[];
    for (const block of blocks as Fields[]) {
      switch (block.type) {
        case "text":
          say(seen.said, role, block.text);
          break;
        case "image":
          seen.images.push(block.source.data ?? block.source.url);
          break;
        case "document":
          seen.files.push(
            block.source.type === "text"
              ? Buffer.from(block.source.data).toString("base64")
              : block.source.data,
          );
          break;
        case "tool_use":
          seen.calls.push({ id: block.id, name: block.name, input: block.input });
          break;
        case "tool_result": {
          const text =
            typeof block.content === "string"
              ? block.content
              : (block.content ?? []).map((one: Fields) => one.text).join("");
          seen.results.push({ id: block.tool_use_id, text, failed: block.is_error === true });
          break;
        }
        case "thinking":
          seen.seals.push(block.signature);
          break;
      }
    }
  }
  const { tools = [], tool_choice, output_config, thinking } = body;
  return {
    ...seen,
    tools: tools.map((tool: Fields) => tool.name),
    choice: tool_choice?.name ?? choices[tool_choice?.type as keyof typeof choices],
    schema: output_config?.format?.schema,
    stop: body.stop_sequences ?? [],
    outputTokensMax: body.max_tokens,
    temperature: body.temperature,
    thinks: thinking !== undefined && thinking.type !== "disabled",
  };
}

const choices = { any: "required", none: "none" };
