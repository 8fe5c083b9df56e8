/** Anthropic's messages, by its own SDK. */
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import type { Client, Dialect } from "../driver.ts";
import type { Ask, Heard, Part, Raw, Turn } from "../neutral.ts";
import { eventsIn, keysWithin } from "./raw.ts";

export const anthropic: Dialect = {
  name: "messages",
  lacks: new Set(["logprobs", "freeText"]),
  ends: {
    stop: "end_turn",
    length: "max_tokens",
    stop_sequence: "stop_sequence",
    content_filter: "refusal",
    calls: "tool_use",
  },
  statuses: { failed: 500, overloaded: 529 },
  idPrefix: "msg_",
  connect({ url, apiKey }): Client {
    const client = new Anthropic({ apiKey, baseURL: url, maxRetries: 0 });
    return {
      async ask(ask, { model, stream }) {
        const body = writeBody(ask, model);
        return read(
          stream
            ? await client.messages.stream(body).finalMessage()
            : await client.messages.create(body),
        );
      },
      refusal(thrown) {
        assert.ok(thrown instanceof Anthropic.AnthropicError, `no error of its SDK: ${thrown}`);
        const { status, message } = thrown as InstanceType<typeof Anthropic.APIError>;
        return { status, message };
      },
      guard,
    };
  },
};

type Body = Anthropic.MessageCreateParamsNonStreaming;
type Block = Anthropic.ContentBlockParam;

function writeBody(ask: Ask, model: string): Body {
  const { system, turns, tools, toolChoice, schema } = ask;
  const kept = ask.keepsPrompt && { cache_control: { type: "ephemeral" as const } };
  return {
    model,
    max_tokens: ask.outputTokensMax ?? 2048,
    ...(system !== undefined && { system: [{ type: "text", text: system, ...kept }] }),
    messages: turns.map(writeTurn),
    ...(tools && {
      tools: tools.map(({ parameters, ...tool }) => ({
        ...tool,
        input_schema: { type: "object" as const, ...parameters },
      })),
    }),
    ...(toolChoice && { tool_choice: writeChoice(toolChoice) }),
    ...(schema && { output_config: { format: { type: "json_schema", schema } } }),
    ...(ask.stop && { stop_sequences: ask.stop }),
    ...(ask.temperature !== undefined && { temperature: ask.temperature }),
    ...(ask.reasoning && { thinking: { type: "enabled", budget_tokens: 1024 } }),
    ...(ask.unknown && { field_of_nobody: 1 }),
  } as Body;
}

function writeChoice(choice: NonNullable<Ask["toolChoice"]>): Anthropic.ToolChoice {
  if (choice === "none") return { type: "none" };
  return choice === "required" ? { type: "any" } : { type: "tool", ...choice };
}

function writeTurn(turn: Turn): Anthropic.MessageParam {
  switch (turn.role) {
    case "user":
      return { role: "user", content: turn.parts.map(writePart) };
    case "assistant":
      return { role: "assistant", content: turn.text };
    case "heard":
      return { role: "assistant", content: turn.heard.said as Block[] };
    case "results":
      return {
        role: "user",
        content: turn.results.map(({ id, text, failed }) => ({
          type: "tool_result",
          tool_use_id: id,
          content: text,
          ...(failed && { is_error: true }),
        })),
      };
    default:
      return turn satisfies never;
  }
}

function writePart(part: Part): Block {
  switch (part.type) {
    case "text":
      return part;
    case "image":
      return {
        type: "image",
        source: { type: "base64", media_type: "image/png", data: part.data },
      };
    case "image_url":
      return { type: "image", source: { type: "url", url: part.url } };
    case "pdf":
      return {
        type: "document",
        title: part.name,
        source: { type: "base64", media_type: "application/pdf", data: part.data },
      };
    case "text_file":
      return {
        type: "document",
        title: part.name,
        source: { type: "text", media_type: "text/plain", data: part.text },
      };
    default:
      return part satisfies never;
  }
}

function read({ id, content, stop_reason, stop_details, usage }: Anthropic.Message): Heard {
  const texts = content.flatMap((block) => (block.type === "text" ? [block] : []));
  const said = texts.map(({ text }) => text).join("");
  const declined = stop_reason === "refusal" ? (stop_details?.explanation ?? "") : "";
  return {
    id,
    text: declined === "" ? said : "",
    reasoning: content
      .flatMap((block) => (block.type === "thinking" ? [block.thinking] : []))
      .join(""),
    calls: content.flatMap((block) =>
      block.type === "tool_use" ? [{ id: block.id, name: block.name, input: block.input }] : [],
    ),
    finish: String(stop_reason),
    refusal: declined,
    cited: texts.flatMap(({ citations }) =>
      (citations ?? []).map((one) =>
        one.type === "web_search_result_location" ? one.url : one.type,
      ),
    ),
    logprobs: [],
    usage: {
      input:
        usage.input_tokens +
        (usage.cache_read_input_tokens ?? 0) +
        (usage.cache_creation_input_tokens ?? 0),
      cacheRead: usage.cache_read_input_tokens ?? 0,
      output: usage.output_tokens,
      reasoning: usage.output_tokens_details?.thinking_tokens,
    },
    said: content,
  };
}

function guard({ text, type }: Raw, { stream }: { stream: boolean }): void {
  if (!stream) {
    const message = JSON.parse(text);
    assert.equal(message.type, "message");
    assert.equal(message.role, "assistant");
    keysWithin(message, messageKeys);
    return;
  }
  assert.match(type, /^text\/event-stream/);
  for (const { event = "", data } of eventsIn(text)) {
    assert.equal(JSON.parse(data).type, event);
    assert.ok(eventTypes.includes(event), event);
  }
}

const messageKeys = [
  "id",
  "type",
  "role",
  "model",
  "content",
  "container",
  "diagnostics",
  "stop_reason",
  "stop_sequence",
  "stop_details",
  "usage",
];
const eventTypes = [
  "message_start",
  "content_block_start",
  "content_block_delta",
  "content_block_stop",
  "message_delta",
  "message_stop",
  "ping",
  "error",
];
