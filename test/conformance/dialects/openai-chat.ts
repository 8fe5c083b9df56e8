/** OpenAI's chat completions, by its own SDK. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import type { Client, Dialect } from "../driver.ts";
import type { Ask, Heard, Part, Raw, Turn } from "../neutral.ts";
import { fileOf, openClient, refusalOf, statuses } from "./openai.ts";
import { dataUrl, eventsIn, keysWithin } from "./raw.ts";

export const openAiChat: Dialect = {
  name: "chat",
  lacks: new Set(["keepsPrompt", "failedResult"]),
  ends: {
    stop: "stop",
    length: "length",
    stop_sequence: "stop",
    content_filter: "content_filter",
    calls: "tool_calls",
  },
  statuses,
  idPrefix: "chatcmpl-",
  connect(address): Client {
    const client = openClient(address);
    return {
      async ask(ask, { model, stream }) {
        const body = writeBody(ask, model);
        if (!stream) return read(await client.chat.completions.create(body));
        const streamed = client.chat.completions.stream({
          ...body,
          stream_options: { include_usage: true },
        });
        let reasoning = "";
        const annotations: unknown[] = [];
        for await (const chunk of streamed) {
          const delta = (chunk.choices[0]?.delta ?? {}) as Extended;
          reasoning += delta.reasoning_content ?? "";
          annotations.push(...(delta.annotations ?? []));
        }
        const whole = await streamed.finalChatCompletion();
        const message = whole.choices[0]?.message;
        if (message) Object.assign(message, { reasoning_content: reasoning, annotations });
        return read(whole);
      },
      refusal(thrown) {
        assert.ok(thrown instanceof OpenAI.APIError && thrown.type, "OpenAI's errors have a type");
        return refusalOf(thrown);
      },
      guard,
    };
  },
};

type Body = Omit<OpenAI.Chat.ChatCompletionCreateParamsNonStreaming, "stream">;
type Message = OpenAI.Chat.ChatCompletionMessageParam;
type Extended = { reasoning_content?: string; annotations?: { url_citation: { url: string } }[] };

function writeBody(ask: Ask, model: string): Body {
  const { system, turns, tools = [], freeTextTool, toolChoice, schema, logprobs } = ask;
  const all = [
    ...tools.map((tool) => ({ type: "function" as const, function: tool })),
    ...(freeTextTool ? [{ type: "custom" as const, custom: freeTextTool }] : []),
  ];
  const name = typeof toolChoice === "object" ? toolChoice.name : "";
  return {
    model,
    messages: [
      ...(system === undefined ? [] : [{ role: "system" as const, content: system }]),
      ...turns.flatMap(writeTurn),
    ],
    ...(all.length > 0 && { tools: all }),
    ...(toolChoice && {
      tool_choice:
        typeof toolChoice === "string"
          ? toolChoice
          : freeTextTool
            ? { type: "custom", custom: { name } }
            : { type: "function", function: { name } },
    }),
    ...(schema && {
      response_format: { type: "json_schema", json_schema: { name: "answer", schema } },
    }),
    ...(ask.stop && { stop: ask.stop }),
    ...(ask.outputTokensMax && { max_completion_tokens: ask.outputTokensMax }),
    ...(ask.temperature !== undefined && { temperature: ask.temperature }),
    ...(logprobs !== undefined && { logprobs: true, top_logprobs: logprobs }),
    ...(ask.reasoning && { reasoning_effort: "medium" }),
    ...(ask.unknown && { field_of_nobody: 1 }),
  };
}

function writeTurn(turn: Turn): Message[] {
  switch (turn.role) {
    case "user":
      return [{ role: "user", content: turn.parts.map(writePart) }];
    case "assistant":
      return [{ role: "assistant", content: turn.text }];
    case "heard":
      return [turn.heard.said as Message];
    case "results":
      return turn.results.map(({ id, text }) => ({
        role: "tool",
        tool_call_id: id,
        content: text,
      }));
    default:
      return turn satisfies never;
  }
}

function writePart(part: Part): OpenAI.Chat.ChatCompletionContentPart {
  switch (part.type) {
    case "text":
      return part;
    case "image":
      return { type: "image_url", image_url: { url: dataUrl("image/png", part.data) } };
    case "image_url":
      return { type: "image_url", image_url: { url: part.url } };
    case "pdf":
    case "text_file":
      return { type: "file", file: fileOf(part) };
    default:
      return part satisfies never;
  }
}

function read({ id, choices, usage }: OpenAI.Chat.ChatCompletion): Heard {
  const [choice] = choices;
  assert.ok(choice && choices.length === 1, "one choice");
  const { message, logprobs, finish_reason } = choice;
  const { reasoning_content = "", annotations = [] } = message as Extended;
  return {
    id,
    text: message.content ?? "",
    reasoning: reasoning_content,
    calls: (message.tool_calls ?? []).map((call) => {
      if (call.type === "custom") {
        return { id: call.id, name: call.custom.name, input: call.custom.input };
      }
      const { name, arguments: text } = call.function;
      return { id: call.id, name, input: JSON.parse(text) };
    }),
    finish: finish_reason,
    refusal: message.refusal ?? "",
    cited: annotations.map((one) => one.url_citation.url),
    logprobs: (logprobs?.content ?? []).map(({ logprob }) => logprob),
    usage: {
      input: usage?.prompt_tokens ?? Number.NaN,
      cacheRead: usage?.prompt_tokens_details?.cached_tokens ?? 0,
      output: usage?.completion_tokens ?? Number.NaN,
      reasoning: usage?.completion_tokens_details?.reasoning_tokens,
    },
    said: withoutParsed(message),
  };
}

/** What the SDK's own helper adds is not sent back. */
function withoutParsed(message: OpenAI.Chat.ChatCompletionMessage): object {
  const { parsed: _, tool_calls, ...said } = message as typeof message & { parsed?: unknown };
  if (!tool_calls) return said;
  const calls = tool_calls.map((call) => {
    if (call.type !== "function") return call;
    const { name, arguments: text } = call.function;
    return { ...call, function: { name, arguments: text } };
  });
  return { ...said, tool_calls: calls };
}

function guard({ text, type }: Raw, { stream }: { stream: boolean }): void {
  if (!stream) {
    const answer = JSON.parse(text);
    assert.equal(answer.object, "chat.completion");
    keysWithin(answer, wholeKeys);
    return;
  }
  assert.match(type, /^text\/event-stream/);
  const events = eventsIn(text);
  assert.equal(events.pop()?.data, "[DONE]");
  for (const { event, data } of events) {
    assert.equal(event, undefined, "a chat's events have no names");
    const chunk = JSON.parse(data);
    assert.equal(chunk.object, "chat.completion.chunk");
    keysWithin(chunk, wholeKeys);
  }
}

const wholeKeys = [
  "id",
  "object",
  "created",
  "model",
  "choices",
  "usage",
  "system_fingerprint",
  "service_tier",
];
