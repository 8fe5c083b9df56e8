/** Cohere, emulated. */
import { type CohereEmulatedAnswer, startCohereEmulator } from "../../emulators/cohere.ts";
import type { Fault, Upstream } from "../driver.ts";
import { nothingSeen, type Said, type Seen, say } from "../neutral.ts";

export const cohereKey = "key-of-cohere";

export async function startCohere(): Promise<Upstream & { baseUrl: string }> {
  let script: readonly Said[] = [];
  let turn = 0;
  const emulator = await startCohereEmulator({
    apiKey: cohereKey,
    answer: () => toAnswer(script[Math.min(turn++, script.length - 1)] ?? {}),
  });
  return {
    name: "Cohere",
    baseUrl: emulator.baseUrl,
    model: (fault) => `command-a-reasoning-08-2025${fault ? `!${faults[fault]}` : ""}`,
    prepare(said) {
      script = said;
      turn = 0;
    },
    seen: () => read(emulator.requests.at(-1)?.body ?? {}),
    scripted: true,
    tells: { cacheRead: true, cacheWrite: false, reasoning: false, logprobs: true },
    // It signs nothing, but takes its own thoughts back.
    seals: true,
    refuses: false,
    filters: true,
    stopped: true,
    close: () => emulator.close(),
  };
}

const faults: Readonly<Record<Fault, string>> = {
  split: "split",
  "400": "status-400",
  "401": "status-401",
  "429": "status-429",
  "500": "status-500",
  overloaded: "status-503",
  broken: "error-4",
  cut: "cut-4",
};

function toAnswer(said: Said): CohereEmulatedAnswer {
  const { text, reasoning, calls, cites, logprobs, end, usage } = said;
  const words = text?.match(/\s*\S+|\s+$/g) ?? [];
  const index = reasoning === undefined ? 0 : 1;
  return {
    content: [
      ...(reasoning === undefined ? [] : [{ type: "thinking" as const, thinking: reasoning }]),
      ...(text === undefined ? [] : [{ type: "text" as const, text }]),
    ],
    ...(calls && {
      tool_calls: calls.map(({ id, name, input }) => ({
        id,
        type: "function" as const,
        function: { name, arguments: JSON.stringify(input) },
      })),
    }),
    ...(cites && {
      citations: [
        {
          start: 0,
          end: cites.end,
          text: text?.slice(0, cites.end),
          content_index: index,
          type: "TEXT_CONTENT",
          sources: [{ type: "document", id: "doc-0", document: cites }],
        },
      ],
    }),
    ...(logprobs && {
      logprobs: logprobs.map((logprob, at) => ({
        text: words[at] ?? "",
        token_ids: [at],
        logprobs: [logprob],
      })),
    }),
    ...(end && { finish_reason: ends[end] }),
    ...(usage && {
      usage: {
        billed_units: {
          input_tokens: usage.input + (usage.cacheRead ?? 0),
          output_tokens: usage.output + (usage.reasoning ?? 0),
        },
        tokens: {
          input_tokens: usage.input + (usage.cacheRead ?? 0) + 100,
          output_tokens: usage.output + (usage.reasoning ?? 0),
        },
        cached_tokens: usage.cacheRead ?? 0,
      },
    }),
  };
}

const ends = {
  length: "MAX_TOKENS",
  stop_sequence: "STOP_SEQUENCE",
  content_filter: "ERROR_TOXIC",
};

// biome-ignore lint/suspicious/noExplicitAny: what was sent is any JSON
type Fields = Record<string, any>;

function read(body: Fields): Seen {
  const seen = structuredClone(nothingSeen);
  for (const { role, content = "", tool_calls, tool_call_id } of body.messages as Fields[]) {
    const blocks: Fields[] = Array.isArray(content) ? content : [{ type: "text", text: content }];
    const text = blocks.flatMap((block) => block.text ?? []).join("\n");
    if (role === "system") seen.system += text;
    else if (role === "tool") {
      seen.results.push({ id: tool_call_id, text, failed: text.startsWith("Error: ") });
    } else say(seen.said, role, text);
    for (const block of blocks) {
      if (block.type === "image_url")
        seen.images.push(block.image_url.url.replace(/^data:[^,]*,/, ""));
      if (block.type === "thinking") seen.seals.push(block.thinking);
    }
    for (const { id, function: called } of (tool_calls ?? []) as Fields[]) {
      seen.calls.push({ id, name: called.name, input: JSON.parse(called.arguments) });
    }
  }
  for (const { data } of (body.documents ?? []) as Fields[]) {
    seen.files.push(Buffer.from(data.text).toString("base64"));
  }
  const { tools = [], tool_choice, response_format } = body;
  const names = tools.map((tool: Fields) => tool.function.name);
  return {
    ...seen,
    tools: names,
    choice: choices[tool_choice as keyof typeof choices],
    schema: response_format?.json_schema,
    stop: body.stop_sequences ?? [],
    outputTokensMax: body.max_tokens,
    temperature: body.temperature,
    logprobs: body.logprobs === true,
    thinks: body.thinking?.type === "enabled",
  };
}

const choices = { REQUIRED: "required", NONE: "none" };
