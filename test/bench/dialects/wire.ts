/** What upstreams of each format stream: the same words in 64 deltas. Written once, so that the upstream limits nobody. */
import { writeFrame } from "../../../gateway/providers/bedrock/frames.ts";
import { formatSse, sseDone } from "../../../sdk/protocol/sse.ts";

export const formats = [
  "openai-chat",
  "openai-responses",
  "anthropic-messages",
  "gemini",
  "bedrock-converse",
] as const;
export type WireFormat = (typeof formats)[number];

export const deltasPerStream = 64;
/** Stands in each delta and nowhere else in a frame, whatever dialect it is written in. */
export const deltaMark = Buffer.from("|~|");

export type Wire = {
  /** The media type of its streams. */
  type: string;
  head: Uint8Array;
  delta: Uint8Array;
  tail: Uint8Array;
};

/** Whose address a request was sent to. */
export function formatOfPath(path: string): WireFormat {
  if (path.endsWith("/chat/completions")) return "openai-chat";
  if (path.endsWith("/responses")) return "openai-responses";
  if (path.endsWith("/messages")) return "anthropic-messages";
  return path.includes("GenerateContent") ? "gemini" : "bedrock-converse";
}

const text = "|~| word";
const all = text.repeat(deltasPerStream);
const model = "bench-model";

export const wires: Readonly<Record<WireFormat, Wire>> = {
  "openai-chat": sseWire({
    head: [chatChunk({ role: "assistant", content: "", refusal: null })],
    delta: chatChunk({ content: text }),
    tail: [
      chatChunk({}, "stop"),
      JSON.stringify({
        ...chatHead(),
        choices: [],
        usage: { prompt_tokens: 48, completion_tokens: 64, total_tokens: 112 },
      }),
      "[DONE]",
    ],
  }),
  "openai-responses": responsesWire(),
  "anthropic-messages": anthropicWire(),
  gemini: sseWire({
    head: [],
    delta: geminiChunk({}),
    tail: [geminiChunk({ finishReason: "STOP" }, "")],
  }),
  "bedrock-converse": {
    type: "application/vnd.amazon.eventstream",
    head: writeFrame("event", "messageStart", { role: "assistant" }),
    delta: writeFrame("event", "contentBlockDelta", {
      contentBlockIndex: 0,
      delta: { text },
      p: "abcdefghijk",
    }),
    tail: Buffer.concat([
      writeFrame("event", "contentBlockStop", { contentBlockIndex: 0 }),
      writeFrame("event", "messageStop", { stopReason: "end_turn" }),
      writeFrame("event", "metadata", {
        usage: { inputTokens: 48, outputTokens: 64, totalTokens: 112 },
        metrics: { latencyMs: 5 },
      }),
    ]),
  },
};

function sseWire({
  head,
  delta,
  tail,
}: {
  head: readonly string[];
  delta: string;
  tail: readonly string[];
}): Wire {
  const frames = (data: readonly string[]) =>
    Buffer.from(data.map((one) => (one === "[DONE]" ? sseDone : formatSse(one))).join(""));
  return {
    type: "text/event-stream; charset=utf-8",
    head: frames(head),
    delta: frames([delta]),
    tail: frames(tail),
  };
}

function chatHead() {
  return {
    id: "chatcmpl-bench",
    object: "chat.completion.chunk",
    created: 1_790_000_000,
    model,
    system_fingerprint: "fp_bench",
  };
}

function chatChunk(delta: object, finish_reason: string | null = null): string {
  const choices = [{ index: 0, delta, logprobs: null, finish_reason }];
  return JSON.stringify({ ...chatHead(), choices, usage: null });
}

function geminiChunk(more: object, said = text): string {
  return JSON.stringify({
    candidates: [{ content: { parts: [{ text: said }], role: "model" }, index: 0, ...more }],
    usageMetadata: { promptTokenCount: 48, candidatesTokenCount: 64, totalTokenCount: 112 },
    modelVersion: model,
    responseId: "bench",
  });
}

/** Events that name themselves. */
function namedEvents(events: readonly { type: string }[]): Buffer {
  return Buffer.from(events.map((event) => formatSse(JSON.stringify(event), event.type)).join(""));
}

function anthropicWire(): Wire {
  const usage = { input_tokens: 48, output_tokens: 1 };
  const message = {
    id: "msg_bench",
    type: "message",
    role: "assistant",
    model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage,
  };
  const index = 0;
  return {
    type: "text/event-stream; charset=utf-8",
    head: namedEvents([
      { type: "message_start", ...{ message } },
      { type: "content_block_start", ...{ index, content_block: { type: "text", text: "" } } },
    ]),
    delta: namedEvents([
      { type: "content_block_delta", ...{ index, delta: { type: "text_delta", text } } },
    ]),
    tail: namedEvents([
      { type: "content_block_stop", ...{ index } },
      {
        type: "message_delta",
        ...{
          delta: { stop_reason: "end_turn", stop_sequence: null },
          usage: { output_tokens: 64 },
        },
      },
      { type: "message_stop" },
    ]),
  };
}

function responsesWire(): Wire {
  let sequence_number = 0;
  const event = (type: string, fields: object) => ({
    type,
    sequence_number: sequence_number++,
    ...fields,
  });
  const response = { id: "resp_bench", object: "response", model, status: "in_progress" };
  const at = { item_id: "msg_bench", output_index: 0, content_index: 0 };
  const part = (said: string) => ({ type: "output_text", text: said, annotations: [] });
  const item = (status: string, content: object[]) => ({
    id: "msg_bench",
    type: "message",
    role: "assistant",
    status,
    content,
  });
  const whole = item("completed", [part(all)]);
  const usage = { input_tokens: 48, output_tokens: 64, total_tokens: 112 };
  return {
    type: "text/event-stream; charset=utf-8",
    head: namedEvents([
      event("response.created", { response: { ...response, output: [] } }),
      event("response.in_progress", { response: { ...response, output: [] } }),
      event("response.output_item.added", { output_index: 0, item: item("in_progress", []) }),
      event("response.content_part.added", { ...at, part: part("") }),
    ]),
    // Clients of ours read no numbers of single deltas, so that all of them may be the same bytes.
    delta: namedEvents([
      event("response.output_text.delta", { ...at, delta: text, logprobs: [], obfuscation: "abc" }),
    ]),
    tail: namedEvents([
      event("response.output_text.done", { ...at, text: all, logprobs: [] }),
      event("response.content_part.done", { ...at, part: part(all) }),
      event("response.output_item.done", { output_index: 0, item: whole }),
      event("response.completed", {
        response: { ...response, status: "completed", output: [whole], usage },
      }),
    ]),
  };
}
