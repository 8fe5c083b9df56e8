/**
 * An answer in each format, whole and streamed: a thought where the format has some, words and a tool call. Written from
 * the published formats, as the emulators are; its texts tell whether something of them arrived.
 */
import { writeFrame } from "../../../gateway/providers/bedrock/frames.ts";
import { formatSse, sseDone } from "../../../sdk/protocol/sse.ts";

export type SampleFormat =
  | "openai-chat"
  | "openai-completions"
  | "openai-embeddings"
  | "openai-responses"
  | "anthropic-messages"
  | "gemini"
  | "bedrock-converse"
  | "cohere-chat";

export type SampleAnswer = { type: string; bytes: Buffer };

export function sampleAnswer(format: SampleFormat, streams: boolean): SampleAnswer {
  if (!streams) {
    return { type: "application/json", bytes: Buffer.from(JSON.stringify(wholeAnswer(format))) };
  }
  const isAws = format === "bedrock-converse";
  return {
    type: isAws ? "application/vnd.amazon.eventstream" : "text/event-stream",
    bytes: Buffer.concat(framesOf(format)),
  };
}

/** What passes to addresses for other things than words; undefined for those that are for words. */
export function sampleMedia(path: string, streams: boolean): SampleAnswer | undefined {
  const json = (value: object) => ({
    type: "application/json",
    bytes: Buffer.from(JSON.stringify(value)),
  });
  if (path.endsWith("/audio/speech")) return { type: "audio/mpeg", bytes: Buffer.from("spoken") };
  if (path.includes("/audio/")) return json({ text: said });
  if (path.includes("/images/") && streams) {
    const bytes = named("image_generation.completed", { b64_json: "", usage: responsesUsage });
    return { type: "text/event-stream", bytes };
  }
  if (path.includes("/images/")) return json({ created: 1_790_000_000, data: [{ b64_json: "" }] });
  if (path.endsWith("/moderations")) return json({ id: "modr", model, results: [{}] });
  return undefined;
}

const model = "sample";
const words = ["It ", "is ", "sunny, ", "wörld 🦜."];
const said = words.join("");
const call = { name: "weather", arguments: '{"city":"Paris"}' };
const chatUsage = { prompt_tokens: 20, completion_tokens: 9, total_tokens: 29 };
const cohereUsage = {
  billed_units: { input_tokens: 20, output_tokens: 9 },
  tokens: { input_tokens: 20, output_tokens: 9 },
};
const responsesUsage = { input_tokens: 20, output_tokens: 9, total_tokens: 29 };

function wholeAnswer(format: SampleFormat): object {
  switch (format) {
    case "openai-chat":
      return {
        ...chatHead("chat.completion"),
        choices: [
          {
            index: 0,
            message: {
              role: "assistant",
              content: said,
              refusal: null,
              reasoning_content: "Hm.",
              tool_calls: [{ id: "call_9", type: "function", function: call }],
            },
            logprobs: null,
            finish_reason: "tool_calls",
          },
        ],
        usage: chatUsage,
      };
    case "openai-completions":
      return {
        ...chatHead("text_completion"),
        choices: [{ index: 0, text: said, logprobs: null, finish_reason: "stop" }],
        usage: chatUsage,
      };
    case "openai-embeddings":
      return {
        object: "list",
        data: [{ object: "embedding", index: 0, embedding: [0.5, -0.5] }],
        model,
        usage: { prompt_tokens: 2, total_tokens: 2 },
      };
    case "openai-responses":
      return responseObject("completed", responseItems());
    case "anthropic-messages":
      return {
        ...anthropicHead(),
        content: [
          { type: "thinking", thinking: "Hm.", signature: "c2ln" },
          { type: "text", text: said, citations: null },
          { type: "tool_use", id: "toolu_9", name: call.name, input: { city: "Paris" } },
        ],
        stop_reason: "tool_use",
        stop_sequence: null,
        usage: { input_tokens: 20, output_tokens: 9 },
      };
    case "gemini":
      return geminiChunk(
        [
          { text: "Hm.", thought: true },
          { text: said },
          { functionCall: { name: call.name, args: { city: "Paris" } } },
        ],
        "STOP",
      );
    case "bedrock-converse":
      return {
        output: {
          message: {
            role: "assistant",
            content: [
              { reasoningContent: { reasoningText: { text: "Hm.", signature: "c2ln" } } },
              { text: said },
              { toolUse: { toolUseId: "tooluse_9", name: call.name, input: { city: "Paris" } } },
            ],
          },
        },
        stopReason: "tool_use",
        usage: { inputTokens: 20, outputTokens: 9, totalTokens: 29 },
        metrics: { latencyMs: 5 },
      };
    case "cohere-chat":
      return {
        id: "cohere-sample",
        message: {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "Hm." },
            { type: "text", text: said },
          ],
          tool_calls: [{ id: "call_9", type: "function", function: call }],
        },
        finish_reason: "TOOL_CALL",
        usage: cohereUsage,
      };
    default:
      return format satisfies never;
  }
}

function framesOf(format: SampleFormat): Uint8Array[] {
  switch (format) {
    case "openai-chat":
      return [
        ...chatChunks().map((chunk) => sse(chunk)),
        sse({ ...chatHead("chat.completion.chunk"), choices: [], usage: chatUsage }),
        Buffer.from(sseDone),
      ];
    case "openai-completions":
      return [
        ...[...words, ""].map((text, index) =>
          sse({
            ...chatHead("text_completion"),
            choices: [{ index: 0, text, finish_reason: index === words.length ? "stop" : null }],
          }),
        ),
        Buffer.from(sseDone),
      ];
    case "openai-embeddings":
      return [];
    case "openai-responses":
      return responseEvents();
    case "anthropic-messages":
      return anthropicEvents();
    case "gemini":
      return [
        sse(geminiChunk([{ text: "Hm.", thought: true }])),
        ...words.map((text) => sse(geminiChunk([{ text }]))),
        sse(geminiChunk([{ functionCall: { name: call.name, args: { city: "Paris" } } }], "STOP")),
      ];
    case "bedrock-converse":
      return bedrockFrames();
    case "cohere-chat":
      return cohereEvents();
    default:
      return format satisfies never;
  }
}

function sse(data: object): Buffer {
  return Buffer.from(formatSse(JSON.stringify(data)));
}

function named(type: string, fields: object): Buffer {
  return Buffer.from(formatSse(JSON.stringify({ type, ...fields }), type));
}

/** As docs.cohere.com/v2/docs/streaming has them, read 2026-11-21. */
function cohereEvents(): Buffer[] {
  const content = (index: number, piece: object) => ({
    index,
    delta: { message: { content: piece } },
  });
  const called = (tool_calls: object) => ({ index: 0, delta: { message: { tool_calls } } });
  const argued = (text: string) => called({ function: { arguments: text } });
  return [
    named("message-start", { id: "cohere-sample", delta: { message: { role: "assistant" } } }),
    named("content-start", content(0, { type: "thinking", thinking: "" })),
    named("content-delta", content(0, { thinking: "Hm." })),
    named("content-end", { index: 0 }),
    named("content-start", content(1, { type: "text", text: "" })),
    ...words.map((text) => named("content-delta", content(1, { text }))),
    named("content-end", { index: 1 }),
    named(
      "tool-call-start",
      called({ id: "call_9", type: "function", function: { name: call.name, arguments: "" } }),
    ),
    named("tool-call-delta", argued(call.arguments.slice(0, 6))),
    named("tool-call-delta", argued(call.arguments.slice(6))),
    named("tool-call-end", { index: 0 }),
    named("message-end", { delta: { finish_reason: "TOOL_CALL", usage: cohereUsage } }),
  ];
}

function chatHead(object: string) {
  return { id: "chatcmpl-sample", object, created: 1_790_000_000, model };
}

function chatChunks(): object[] {
  const deltas: object[] = [
    { role: "assistant", content: "" },
    { reasoning_content: "Hm." },
    ...words.map((content) => ({ content })),
    {
      tool_calls: [
        { index: 0, id: "call_9", type: "function", function: { name: call.name, arguments: "" } },
      ],
    },
    { tool_calls: [{ index: 0, function: { arguments: call.arguments.slice(0, 6) } }] },
    { tool_calls: [{ index: 0, function: { arguments: call.arguments.slice(6) } }] },
  ];
  const chunk = (delta: object, finish_reason: string | null) => ({
    ...chatHead("chat.completion.chunk"),
    choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    usage: null,
  });
  return [...deltas.map((delta) => chunk(delta, null)), chunk({}, "tool_calls")];
}

function responseObject(status: string, output: object[]) {
  return {
    id: "resp_sample",
    object: "response",
    created_at: 1_790_000_000,
    model,
    status,
    output,
    ...(status === "completed" && { usage: responsesUsage }),
  };
}

function responseItems(): object[] {
  return [
    { id: "rs_1", type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }] },
    {
      id: "msg_1",
      type: "message",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: said, annotations: [], logprobs: [] }],
    },
    { id: "fc_1", type: "function_call", status: "completed", call_id: "call_9", ...call },
  ];
}

function responseEvents(): Buffer[] {
  let sequence_number = 0;
  const event = (type: string, fields: object) =>
    named(type, { sequence_number: sequence_number++, ...fields });
  const [thought, message, calling] = responseItems() as [object, object, object];
  const text = { item_id: "msg_1", output_index: 1, content_index: 0 };
  const part = { type: "output_text", text: "", annotations: [], logprobs: [] };
  const summary = { item_id: "rs_1", output_index: 0, summary_index: 0 };
  const argued = { item_id: "fc_1", output_index: 2 };
  const response = responseObject("in_progress", []);
  return [
    event("response.created", { response }),
    event("response.in_progress", { response }),
    event("response.output_item.added", { output_index: 0, item: { ...thought, summary: [] } }),
    event("response.reasoning_summary_text.delta", { ...summary, delta: "Hm." }),
    event("response.output_item.done", { output_index: 0, item: thought }),
    event("response.output_item.added", { output_index: 1, item: { ...message, content: [] } }),
    event("response.content_part.added", { ...text, part }),
    ...words.map((delta) => event("response.output_text.delta", { ...text, delta, logprobs: [] })),
    event("response.output_text.done", { ...text, text: said, logprobs: [] }),
    event("response.output_item.done", { output_index: 1, item: message }),
    event("response.output_item.added", { output_index: 2, item: { ...calling, arguments: "" } }),
    event("response.function_call_arguments.delta", { ...argued, delta: call.arguments }),
    event("response.function_call_arguments.done", { ...argued, ...call }),
    event("response.output_item.done", { output_index: 2, item: calling }),
    event("response.completed", { response: responseObject("completed", responseItems()) }),
  ];
}

function anthropicHead() {
  return { id: "msg_sample", type: "message", role: "assistant", model };
}

function anthropicEvents(): Buffer[] {
  const message = {
    ...anthropicHead(),
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: 20, output_tokens: 1 },
  };
  const block = (index: number, content_block: object, deltas: object[]) => [
    named("content_block_start", { index, content_block }),
    ...deltas.map((delta) => named("content_block_delta", { index, delta })),
    named("content_block_stop", { index }),
  ];
  const tool = { type: "tool_use", id: "toolu_9", name: call.name, input: {} };
  return [
    named("message_start", { message }),
    ...block(0, { type: "thinking", thinking: "", signature: "" }, [
      { type: "thinking_delta", thinking: "Hm." },
      { type: "signature_delta", signature: "c2ln" },
    ]),
    named("ping", {}),
    ...block(
      1,
      { type: "text", text: "" },
      words.map((text) => ({ type: "text_delta", text })),
    ),
    ...block(2, tool, [
      { type: "input_json_delta", partial_json: call.arguments.slice(0, 6) },
      { type: "input_json_delta", partial_json: call.arguments.slice(6) },
    ]),
    named("message_delta", {
      delta: { stop_reason: "tool_use", stop_sequence: null },
      usage: { output_tokens: 9 },
    }),
    named("message_stop", {}),
  ];
}

function geminiChunk(parts: object[], finishReason?: string): object {
  return {
    candidates: [
      { content: { parts, role: "model" }, index: 0, ...(finishReason && { finishReason }) },
    ],
    usageMetadata: { promptTokenCount: 20, candidatesTokenCount: 9, totalTokenCount: 29 },
    modelVersion: model,
    responseId: "sample",
  };
}

function bedrockFrames(): Uint8Array[] {
  const frame = (name: string, payload: object) => writeFrame("event", name, payload);
  const delta = (contentBlockIndex: number, piece: object) =>
    frame("contentBlockDelta", { contentBlockIndex, delta: piece });
  const stop = (contentBlockIndex: number) => frame("contentBlockStop", { contentBlockIndex });
  return [
    frame("messageStart", { role: "assistant" }),
    delta(0, { reasoningContent: { text: "Hm." } }),
    delta(0, { reasoningContent: { signature: "c2ln" } }),
    stop(0),
    ...words.map((text) => delta(1, { text })),
    stop(1),
    frame("contentBlockStart", {
      contentBlockIndex: 2,
      start: { toolUse: { toolUseId: "tooluse_9", name: call.name } },
    }),
    delta(2, { toolUse: { input: call.arguments } }),
    stop(2),
    frame("messageStop", { stopReason: "tool_use" }),
    frame("metadata", {
      usage: { inputTokens: 20, outputTokens: 9, totalTokens: 29 },
      metrics: { latencyMs: 5 },
    }),
  ];
}
