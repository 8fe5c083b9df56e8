/** OpenAI's responses, by its own SDK. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import type { Client, Dialect } from "../driver.ts";
import type { Ask, Heard, Part, Raw, Turn } from "../neutral.ts";
import { fileOf, openClient, refusalOf, statuses } from "./openai.ts";
import { dataUrl, eventsIn } from "./raw.ts";

export const openAiResponses: Dialect = {
  name: "responses",
  lacks: new Set(["keepsPrompt", "failedResult", "stop"]),
  ends: {
    stop: "completed",
    length: "incomplete: max_output_tokens",
    stop_sequence: "completed",
    content_filter: "incomplete: content_filter",
    calls: "completed",
  },
  statuses,
  idPrefix: "resp_",
  connect(address): Client {
    const client = openClient(address);
    return {
      async ask(ask, { model, stream }) {
        const body = writeBody(ask, model);
        if (!stream) return read(await client.responses.create(body));
        return read(await client.responses.stream(body).finalResponse());
      },
      // What a stream told, its SDK throws without a status.
      refusal: (thrown) => refusalOf(thrown, OpenAI.OpenAIError),
      guard,
    };
  },
};

type Body = Omit<OpenAI.Responses.ResponseCreateParamsNonStreaming, "stream">;
type Item = OpenAI.Responses.ResponseInputItem;

function writeBody(ask: Ask, model: string): Body {
  const { system, turns, tools = [], freeTextTool, toolChoice, schema, logprobs } = ask;
  const all = [
    ...tools.map(({ parameters = null, ...tool }) => ({
      type: "function" as const,
      ...tool,
      parameters,
      strict: false,
    })),
    ...(freeTextTool ? [{ type: "custom" as const, ...freeTextTool }] : []),
  ];
  const type = freeTextTool ? "custom" : "function";
  return {
    model,
    store: false,
    ...(system !== undefined && { instructions: system }),
    input: turns.flatMap(writeTurn),
    ...(all.length > 0 && { tools: all }),
    ...(toolChoice && {
      tool_choice: typeof toolChoice === "string" ? toolChoice : { type, ...toolChoice },
    }),
    ...(schema && { text: { format: { type: "json_schema", name: "answer", schema } } }),
    // Fewer are not to be asked for.
    ...(ask.outputTokensMax && { max_output_tokens: Math.max(16, ask.outputTokensMax) }),
    ...(ask.temperature !== undefined && { temperature: ask.temperature }),
    include: [
      "reasoning.encrypted_content",
      ...(logprobs === undefined ? [] : (["message.output_text.logprobs"] as const)),
    ],
    ...(logprobs && { top_logprobs: logprobs }),
    ...(ask.reasoning && { reasoning: { effort: "medium", summary: "auto" } }),
    ...(ask.unknown && { field_of_nobody: 1 }),
  };
}

function writeTurn(turn: Turn): Item[] {
  switch (turn.role) {
    case "user":
      return [{ role: "user", content: turn.parts.map(writePart) }];
    case "assistant":
      return [{ role: "assistant", content: turn.text }];
    case "heard":
      return turn.heard.said as Item[];
    case "results":
      return turn.results.map(({ id, text, freeText }) => ({
        type: freeText ? "custom_tool_call_output" : "function_call_output",
        call_id: id,
        output: text,
      }));
    default:
      return turn satisfies never;
  }
}

function writePart(part: Part): OpenAI.Responses.ResponseInputContent {
  switch (part.type) {
    case "text":
      return { type: "input_text", text: part.text };
    case "image":
      return { type: "input_image", detail: "auto", image_url: dataUrl("image/png", part.data) };
    case "image_url":
      return { type: "input_image", detail: "auto", image_url: part.url };
    case "pdf":
    case "text_file":
      return { type: "input_file", ...fileOf(part) };
    default:
      return part satisfies never;
  }
}

function read(response: OpenAI.Responses.Response): Heard {
  const { id, output, status, incomplete_details, usage } = response;
  const contents = output.flatMap((item) => (item.type === "message" ? item.content : []));
  const texts = contents.flatMap((part) => (part.type === "output_text" ? [part] : []));
  return {
    id,
    text: texts.map(({ text }) => text).join(""),
    reasoning: output
      .flatMap((item) => (item.type === "reasoning" ? item.summary.map(({ text }) => text) : []))
      .join(""),
    calls: output.flatMap((item) => {
      if (item.type === "custom_tool_call") {
        return [{ id: item.call_id, name: item.name, input: item.input }];
      }
      if (item.type !== "function_call") return [];
      return [{ id: item.call_id, name: item.name, input: JSON.parse(item.arguments) }];
    }),
    finish: incomplete_details ? `${status}: ${incomplete_details.reason}` : String(status),
    refusal: contents.flatMap((part) => (part.type === "refusal" ? [part.refusal] : [])).join(""),
    cited: texts.flatMap(({ annotations }) =>
      annotations.flatMap((one) => (one.type === "url_citation" ? [one.url] : [])),
    ),
    logprobs: texts.flatMap(({ logprobs }) => (logprobs ?? []).map(({ logprob }) => logprob)),
    usage: {
      input: usage?.input_tokens ?? Number.NaN,
      cacheRead: usage?.input_tokens_details.cached_tokens ?? 0,
      output: usage?.output_tokens ?? Number.NaN,
      reasoning: usage?.output_tokens_details.reasoning_tokens,
    },
    said: output.map(withoutParsed),
  };
}

/** What the SDK's own helper adds is not sent back. */
function withoutParsed(item: OpenAI.Responses.ResponseOutputItem): object {
  const { parsed_arguments: _, ...said } = item as typeof item & { parsed_arguments?: unknown };
  if (said.type !== "message") return said;
  const content = said.content.map((part) => {
    const { parsed: __, ...rest } = part as typeof part & { parsed?: unknown };
    return rest;
  });
  return { ...said, content };
}

function guard({ text, type }: Raw, { stream }: { stream: boolean }): void {
  if (!stream) {
    const response = JSON.parse(text);
    assert.equal(response.object, "response");
    assert.ok(Array.isArray(response.output));
    return;
  }
  assert.match(type, /^text\/event-stream/);
  for (const [index, { event, data }] of eventsIn(text).entries()) {
    const json = JSON.parse(data);
    assert.equal(json.type, event);
    assert.equal(json.sequence_number, index);
    assert.match(json.type, /^(response\.|error$)/);
  }
}
