/**
 * `POST /v1/responses` of the emulated OpenAI: the same answers as items and events, written from the published format
 * (platform.openai.com/docs/api-reference/responses-streaming, read 2026-11-21).
 */
import type { ServerResponse } from "node:http";
import type { EmulatedAnswer, EmulatedRequest, EmulatedUsage } from "./openai.ts";

let responses = 0;

/** @param fault `cut` breaks the stream off before its end, `error-event` says why, `failed` ends it so */
export function answerAsResponse(
  response: ServerResponse,
  request: EmulatedRequest,
  answer: EmulatedAnswer & { usage: EmulatedUsage },
  fault: string | undefined,
): void {
  const id = `resp_emulated_${++responses}`;
  const output = itemsOf(answer, id);
  const whole = (status: string, more: object = {}) => ({
    id,
    object: "response",
    created_at: 1_780_000_000,
    status,
    error: null,
    incomplete_details: null,
    instructions: request.instructions ?? null,
    metadata: {},
    model: request.model,
    output: [],
    parallel_tool_calls: true,
    temperature: 1,
    tool_choice: "auto",
    tools: request.tools ?? [],
    top_p: 1,
    previous_response_id: request.previous_response_id ?? null,
    usage: null,
    ...more,
  });
  const cut = answer.finish === "length";
  const done = whole(cut ? "incomplete" : "completed", {
    output,
    ...(cut && { incomplete_details: { reason: "max_output_tokens" } }),
    usage: usageOf(answer.usage),
  });
  if (request.stream !== true) {
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(done));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  let sequence_number = 0;
  const send = (type: string, fields: object) =>
    response.write(
      `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: sequence_number++, ...fields })}\n\n`,
    );
  send("response.created", { response: whole("in_progress") });
  send("response.in_progress", { response: whole("in_progress") });
  for (const [output_index, item] of output.entries()) sendItem(send, item, output_index);
  if (fault === "cut") return void setTimeout(() => response.socket?.destroy(), 20);
  if (fault === "error-event") {
    send("error", { code: "server_error", message: "overloaded", param: null });
  } else if (fault === "failed") {
    const error = { code: "server_error", message: "overloaded" };
    send("response.failed", { response: whole("failed", { error }) });
  } else send(cut ? "response.incomplete" : "response.completed", { response: done });
  response.end();
}

type Send = (type: string, fields: object) => void;

function sendItem(send: Send, item: Item, output_index: number): void {
  const at = { item_id: item.id, output_index };
  switch (item.type) {
    case "reasoning": {
      const [part] = item.summary;
      const where = { ...at, summary_index: 0 };
      send("response.output_item.added", { output_index, item: { ...item, summary: [] } });
      send("response.reasoning_summary_part.added", { ...where, part: { ...part, text: "" } });
      send("response.reasoning_summary_text.delta", { ...where, delta: part?.text });
      send("response.reasoning_summary_text.done", { ...where, text: part?.text });
      send("response.reasoning_summary_part.done", { ...where, part });
      break;
    }
    case "message": {
      const [part] = item.content;
      const where = { ...at, content_index: 0 };
      const begun = { ...item, status: "in_progress", content: [] };
      send("response.output_item.added", { output_index, item: begun });
      send("response.content_part.added", { ...where, part: { ...part, text: "" } });
      for (const delta of part?.text.match(/\s*\S+|\s+$/g) ?? []) {
        send("response.output_text.delta", { ...where, delta, logprobs: [] });
      }
      send("response.output_text.done", { ...where, text: part?.text, logprobs: [] });
      send("response.content_part.done", { ...where, part });
      break;
    }
    case "function_call": {
      const { name, arguments: text } = item;
      const begun = { ...item, status: "in_progress", arguments: "" };
      send("response.output_item.added", { output_index, item: begun });
      for (const delta of text.match(/.{1,5}/gs) ?? []) {
        send("response.function_call_arguments.delta", { ...at, delta });
      }
      send("response.function_call_arguments.done", { ...at, name, arguments: text });
      break;
    }
    default:
      item satisfies never;
  }
  send("response.output_item.done", { output_index, item });
}

type Item = ReturnType<typeof itemsOf>[number];

function itemsOf({ content, reasoning, toolCalls = [] }: EmulatedAnswer, id: string) {
  const text = { type: "output_text" as const, text: content, annotations: [], logprobs: [] };
  return [
    ...(reasoning === undefined
      ? []
      : [
          {
            id: `rs_${id}`,
            type: "reasoning" as const,
            summary: [{ type: "summary_text" as const, text: reasoning }],
            encrypted_content: "gAAAAA-sealed",
          },
        ]),
    ...(content === ""
      ? []
      : [
          {
            id: `msg_${id}`,
            type: "message" as const,
            role: "assistant",
            status: "completed",
            content: [text],
          },
        ]),
    ...toolCalls.map((call) => ({
      id: `fc_${call.id}`,
      type: "function_call" as const,
      call_id: call.id,
      name: call.name,
      arguments: call.arguments,
      status: "completed",
    })),
  ];
}

function usageOf(usage: EmulatedUsage): object {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: {
      reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    },
    total_tokens: usage.total_tokens,
  };
}
